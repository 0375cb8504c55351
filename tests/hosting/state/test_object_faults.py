"""Object stores that answer wrongly, late or not at all: each the right error, and nothing lost."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from agent_framework_hosting.errors import ConfigurationError, StateUnavailable
from agent_framework_hosting.state.object_places import BlobPlace, S3Place
from agent_framework_hosting.state.objects import ObjectStore
from agent_framework_hosting.state.settle import Overtaken, settled_put
from agent_framework_hosting.state.store import ABSENT, Lost, StateStore, Unknown, Version, read
from tests.support.places import OBJECT_PLACES, StatePlace, make_place
from tests.support.proxy import (
    Asked,
    Fault,
    FaultProxy,
    Reply,
    after,
    before,
    cut_after,
    cut_before,
    garbage,
    hang_after,
    hang_before,
)

NAME = "k/aa/key/head"
TIMEOUT = 0.6
"""Seconds after which a service is given up that hangs."""
PATIENCE = 10.0
"""Seconds for one that does not: it may be busy."""


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


@dataclass
class Faulty:
    """A store behind a proxy, and the same place without one."""

    place: StatePlace
    proxy: FaultProxy
    monkeypatch: pytest.MonkeyPatch
    direct: StateStore

    def store(self, fault: Fault | None = None, *, missing: bool = False) -> ObjectStore:
        """A store that reads its environment when it is first used; with `missing` in no bucket that there is.

        It gives up early where the `fault` is that the service hangs.
        """
        timeout = TIMEOUT if fault in (hang_before, hang_after) else PATIENCE
        prefix = self.place.state_dir.rpartition("/")[2]
        name = "nowhere" if missing else "bucket" if self.is_s3 else "container"
        place = S3Place(name, prefix) if self.is_s3 else BlobPlace(name, prefix)
        return ObjectStore(place, timeout=timeout, sleep=no_sleep)

    @property
    def is_s3(self) -> bool:
        return self.place.kind == "s3"

    def point_to(self, port: int) -> None:
        for name, value in self.place.environment.items():
            self.monkeypatch.setenv(name, value.replace(str(self.proxy.target), str(port)))

    async def stored(self) -> bytes | None:
        found = await read(self.direct, NAME)
        return None if found is None else found[0]


@pytest.fixture(params=OBJECT_PLACES)
async def faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Faulty]:
    place = make_place(request.param, request)
    target = request.getfixturevalue("moto" if request.param == "s3" else "azurite").port
    direct = place.store()
    await direct.list("")  # It has read its environment.
    with FaultProxy(target) as proxy:
        found = Faulty(place, proxy, monkeypatch, direct)
        found.point_to(proxy.port)
        yield found


APPLIED: dict[str, Fault] = {"500": after(500, "InternalError"), "cut": cut_after, "hanging": hang_after}
NOT_APPLIED: dict[str, Fault] = {
    "500": before(500, "InternalError"),
    "503": before(503, "SlowDown"),
    "408": before(408, "RequestTimeout"),
    "cut": cut_before,
    "hanging": hang_before,
}

FAULTS = {**APPLIED, **{f"{name}, not applied": fault for name, fault in NOT_APPLIED.items()}}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("condition", ["none", "absent", "version"])
async def test_a_write_without_an_answer_is_in_doubt(faulty: Faulty, condition: str, fault: Fault) -> None:
    store = faulty.store(fault)
    expected: dict[str, Version | None] = {
        "none": None,
        "absent": None,
        "version": await faulty.direct.put(NAME, b"old") if condition == "version" else None,
    }
    faulty.proxy.plan(fault, method="PUT")
    with pytest.raises(Unknown, match=f"Cannot write {NAME} in {store.place} .*unharmed|Try again"):
        await store.put(NAME, b"new", if_version=ABSENT if condition == "absent" else expected[condition])
    assert faulty.proxy.log == ["PUT"]
    old = b"old" if condition == "version" else None
    assert await faulty.stored() == (b"new" if fault in APPLIED.values() else old)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("creating", [True, False], ids=["create", "replace"])
async def test_a_write_in_doubt_is_settled_once(faulty: Faulty, fault: Fault, creating: bool) -> None:
    store = faulty.store(fault)
    expected = ABSENT if creating else await faulty.direct.put(NAME, b"old")
    faulty.proxy.plan(fault, method="PUT")
    version = await settled_put(store, NAME, b"new", if_version=expected, sleep=no_sleep)
    assert await read(faulty.direct, NAME) == (b"new", version)
    assert faulty.proxy.log.count("PUT") == (1 if fault in APPLIED.values() else 2)


@pytest.mark.parametrize("fault", APPLIED.values(), ids=APPLIED)
async def test_a_write_in_doubt_that_was_overwritten_is_told(faulty: Faulty, fault: Fault) -> None:
    store, loop = faulty.store(fault), asyncio.get_running_loop()
    expected = await faulty.direct.put(NAME, b"old")

    def overwrite(asked: Asked) -> Reply | None:
        asked.forward()
        asyncio.run_coroutine_threadsafe(faulty.direct.put(NAME, b"other"), loop).result(5)
        return before(500)(asked)

    faulty.proxy.plan(overwrite, method="PUT")
    with pytest.raises(Overtaken):
        await settled_put(store, NAME, b"new", if_version=expected, sleep=no_sleep)
    assert await faulty.stored() == b"other"


CONFLICTS = {
    "409": (409, "ConditionalRequestConflict"),
    "409 aborted": (409, "OperationAborted"),
    "409 exists": (409, "BlobAlreadyExists"),
    "409 bare": (409, ""),
}
ON_CREATION = {**CONFLICTS, "412": (412, "PreconditionFailed")}


@pytest.mark.parametrize(("status", "code"), ON_CREATION.values(), ids=ON_CREATION)
@pytest.mark.parametrize("applied", [True, False])
async def test_a_creation_refused_as_a_conflict_may_be_our_own(
    faulty: Faulty, status: int, code: str, applied: bool
) -> None:
    store = faulty.store()
    faulty.proxy.plan((after if applied else before)(status, code), method="PUT")
    version = await store.put(NAME, b"new", if_version=ABSENT)
    assert await read(faulty.direct, NAME) == (b"new", version)
    assert faulty.proxy.log == (["PUT", "GET"] if applied else ["PUT", "GET", "PUT"])


@pytest.mark.parametrize(("status", "code"), CONFLICTS.values(), ids=CONFLICTS)
@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("guarded", [True, False])
async def test_a_replacement_refused_as_a_conflict_may_be_our_own(
    faulty: Faulty, status: int, code: str, applied: bool, guarded: bool
) -> None:
    store = faulty.store()
    old = await faulty.direct.put(NAME, b"old")
    faulty.proxy.plan((after if applied else before)(status, code), method="PUT")
    version = await store.put(NAME, b"new", if_version=old if guarded else None)
    assert await read(faulty.direct, NAME) == (b"new", version)


@pytest.mark.parametrize(("status", "code"), ON_CREATION.values(), ids=ON_CREATION)
async def test_a_conflict_with_another_creation_is_lost(faulty: Faulty, status: int, code: str) -> None:
    store = faulty.store()
    await faulty.direct.put(NAME, b"other")
    faulty.proxy.plan(before(status, code), method="PUT")
    with pytest.raises(Lost, match="read it again"):
        await store.put(NAME, b"new", if_version=ABSENT)
    assert await faulty.stored() == b"other"


@pytest.mark.parametrize("found", [b"other", None])
async def test_a_conflict_with_another_replacement_is_lost(faulty: Faulty, found: bytes | None) -> None:
    store = faulty.store()
    old = await faulty.direct.put(NAME, b"old")
    await (faulty.direct.delete(NAME) if found is None else faulty.direct.put(NAME, found))
    faulty.proxy.plan(before(409, "ConditionalRequestConflict"), method="PUT")
    with pytest.raises(Lost, match="read it again"):
        await store.put(NAME, b"new", if_version=old)
    assert await faulty.stored() == found


async def test_conflicts_without_end_are_given_up(faulty: Faulty) -> None:
    store = faulty.store()
    faulty.proxy.plan(before(409, "ConditionalRequestConflict"), method="PUT", times=None)
    with pytest.raises(StateUnavailable, match="by others all the time") as failure:
        await store.put(NAME, b"new", if_version=ABSENT)
    assert not isinstance(failure.value, Unknown)
    assert faulty.proxy.log.count("PUT") == 4
    assert await faulty.stored() is None


async def test_a_conflict_that_cannot_be_read_back_is_in_doubt(faulty: Faulty) -> None:
    store = faulty.store()
    faulty.proxy.plan(after(409, "ConditionalRequestConflict"), method="PUT")
    faulty.proxy.plan(before(500), method="GET", times=None)
    with pytest.raises(Unknown, match=f"Whether {NAME} was written is not known"):
        await store.put(NAME, b"new", if_version=ABSENT)
    assert await faulty.stored() == b"new"


@pytest.mark.parametrize(
    ("status", "code"), [(412, "LeaseIdMissing"), (409, "BlobImmutableDueToPolicy"), (400, "InvalidDigest")]
)
@pytest.mark.parametrize("condition", [None, ABSENT, "version"])
async def test_a_refusal_for_another_reason_is_not_called_lost(
    faulty: Faulty, condition: object, status: int, code: str
) -> None:
    store = faulty.store()
    version = await faulty.direct.put(NAME, b"old") if condition == "version" else None
    faulty.proxy.plan(before(status, code), method="PUT")
    with pytest.raises(StateUnavailable, match=f"{status} {code}.*unharmed") as failure:
        await store.put(NAME, b"new", if_version=ABSENT if condition is ABSENT else version)
    assert not isinstance(failure.value, Unknown)


PASSING: dict[str, Fault] = {**NOT_APPLIED, "429": before(429, "TooManyRequests")}
OPERATIONS: dict[str, Callable[[StateStore], Awaitable[object]]] = {
    "get": lambda store: store.get(NAME),
    "list": lambda store: store.list("k/"),
    "delete": lambda store: store.delete(NAME),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_may_be_repeated_is(faulty: Faulty, operation: str, fault: Fault) -> None:
    hangs = fault is hang_before
    store = faulty.store(fault)
    version = await faulty.direct.put(NAME, b"old")
    faulty.proxy.plan(fault)
    if hangs:  # Then there is no time left to repeat it.
        with pytest.raises(StateUnavailable, match="no proper answer"):
            await OPERATIONS[operation](store)
    answer = await OPERATIONS[operation](store)
    assert answer == {"get": (b"old", version), "list": [NAME], "delete": None}[operation]
    assert len(faulty.proxy.log) == 2
    assert await faulty.stored() == (None if operation == "delete" else b"old")


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_never_succeeds_is_given_up(faulty: Faulty, operation: str, fault: Fault) -> None:
    store = faulty.store(fault)
    faulty.proxy.plan(fault, times=None)
    began = time.monotonic()
    with pytest.raises(StateUnavailable, match=f"in {store.place} .*(Try again|unharmed)"):
        await OPERATIONS[operation](store)
    assert time.monotonic() - began < 3
    assert len(faulty.proxy.log) == (1 if fault is hang_before else 4)


async def test_what_is_no_answer_of_the_service_is_none(faulty: Faulty) -> None:
    store = faulty.store()
    faulty.proxy.plan(garbage, times=None)
    for condition in (None, ABSENT, '"version"'):
        with pytest.raises(Unknown, match="no proper answer"):
            await store.put(NAME, b"new", if_version=condition)
    with pytest.raises(StateUnavailable, match="no proper answer"):
        await store.get(NAME)
    assert await faulty.stored() is None
    faulty.proxy.clear()
    assert await store.get(NAME) is None


async def test_a_cancelled_write_ends_at_once_and_leaves_the_old_or_the_new(faulty: Faulty) -> None:
    store, loop = faulty.store(), asyncio.get_running_loop()
    for fault, left in ((hang_before, b"old"), (hang_after, b"new")):
        await faulty.direct.put(NAME, b"old")
        hanging = asyncio.Event()

        def hang(asked: Asked, fault: Fault = fault, hanging: asyncio.Event = hanging) -> Reply | None:
            applied = fault is hang_before or asked.forward()
            loop.call_soon_threadsafe(hanging.set)
            return hang_before(asked) if applied else None

        faulty.proxy.plan(hang, method="PUT")
        writing = asyncio.ensure_future(store.put(NAME, b"new"))
        await hanging.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await faulty.stored() == left


async def everything(store: StateStore) -> dict[str, StateUnavailable]:
    """What each operation raises."""
    raised: dict[str, StateUnavailable] = {}
    operations: dict[str, Callable[[StateStore], Awaitable[object]]] = {
        **OPERATIONS,
        "put": lambda store: store.put(NAME, b"x"),
        "create": lambda store: store.put(NAME, b"x", if_version=ABSENT),
        "replace": lambda store: store.put(NAME, b"x", if_version='"version"'),
        "poll": lambda store: store.get(NAME, unless='"version"'),
    }
    for name, operation in operations.items():
        try:
            await operation(store)
        except StateUnavailable as error:
            raised[name] = error
    assert len(raised) == len(operations)
    return raised


async def test_a_missing_bucket_never_looks_like_an_empty_store(faulty: Faulty) -> None:
    store = faulty.store(missing=True)
    for operation, error in (await everything(store)).items():
        assert type(error).__mro__[1] is StateUnavailable, operation
        assert f"there is no {'bucket' if faulty.is_s3 else 'container'} nowhere. Create it" in str(error)
    with pytest.raises(ConfigurationError, match=r"there is no (bucket|container) nowhere\. Create it, or correct"):
        await faulty.store(missing=True).probe()


async def test_a_missing_object_costs_one_request(faulty: Faulty) -> None:
    assert await faulty.store().get(NAME) is None
    assert faulty.proxy.log == ["GET"]


async def test_an_absence_that_nobody_explains_is_looked_into(faulty: Faulty) -> None:
    store = faulty.store()
    await faulty.direct.put("k/other", b"x")
    faulty.proxy.plan(before(404))
    assert await store.get(NAME) is None
    assert faulty.proxy.log == ["GET", "GET"]
    faulty.proxy.plan(before(404), times=None)
    with pytest.raises(StateUnavailable, match="404"):
        await store.get(NAME)


REFUSALS = {
    "forbidden": (
        403,
        "AccessDenied",
        r"s3:ListBucket .*s3:GetObject, s3:PutObject and s3:DeleteObject|Storage Blob Data",
    ),
    "forbidden by role": (403, "AuthorizationPermissionMismatch", "s3:ListBucket|Storage Blob Data Contributor"),
    "unknown key": (403, "InvalidAccessKeyId", "credentials are missing, wrong or expired"),
    "wrong signature": (403, "SignatureDoesNotMatch", "credentials are missing, wrong or expired"),
    "expired": (400, "ExpiredToken", "credentials are missing, wrong or expired"),
    "unauthenticated": (401, "NoAuthenticationInformation", "credentials are missing, wrong or expired"),
    "another region": (400, "AuthorizationHeaderMalformed", "Set AWS_REGION|does not do this"),
    "redirect": (301, "PermanentRedirect", "Set AWS_REGION|does not do this"),
}


@pytest.mark.parametrize(("status", "code", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_who_may_not_is_told_what_to_do(faulty: Faulty, status: int, code: str, words: str) -> None:
    store = faulty.store()
    faulty.proxy.plan(before(status, code), times=None)
    for operation, error in (await everything(store)).items():
        assert not isinstance(error, Unknown), operation
        with pytest.raises(StateUnavailable, match=words):
            raise error
    assert len(faulty.proxy.log) == 7
    with pytest.raises(ConfigurationError, match=words):
        await store.probe()


@pytest.mark.parametrize("faulty", OBJECT_PLACES[1:], indirect=True)  # moto knows no keys
async def test_wrong_keys_are_refused_by_the_service_itself(faulty: Faulty) -> None:
    for name, value in faulty.place.environment.items():
        faulty.monkeypatch.setenv(name, re.sub("AccountKey=[^;]*", "AccountKey=" + "QUJD" * 22, value))
    with pytest.raises(ConfigurationError, match="credentials are missing, wrong or expired"):
        await faulty.store().probe()


@pytest.mark.parametrize(
    "answer",
    [
        before(500, "SECRET" * 20),
        before(403, "AccessDenied"),
        before(301, location="http://h/?sig=SECRET"),
        cut_before,
    ],
)
async def test_no_error_says_more_than_the_services_word(faulty: Faulty, answer: Fault) -> None:
    environment = (
        {"AWS_ACCESS_KEY_ID": "SECRETID", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_SESSION_TOKEN": "SECRET"}
        if faulty.is_s3
        else {
            "AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint=http://127.0.0.1:{faulty.proxy.port}/account;"
            "SharedAccessSignature=sv=2023-11-03&sp=rwdl&sig=SECRET"
        }
    )
    for name, value in environment.items():
        faulty.monkeypatch.setenv(name, value)
    store = faulty.store()
    faulty.proxy.plan(answer, times=None)
    for error in (await everything(store)).values():
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(store) + repr(store.place)
        assert "SECRET" not in shown
        assert "sig=" not in shown
    assert faulty.proxy.log


async def test_nobody_at_the_endpoint_is_a_write_that_certainly_failed(faulty: Faulty) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    faulty.point_to(port)
    store = faulty.store()
    for operation, error in (await everything(store)).items():
        assert type(error) is StateUnavailable, operation
        assert "(no connection): check the endpoint and the network" in str(error)
    with pytest.raises(StateUnavailable, match="no connection"):
        await store.probe()


async def test_a_service_that_ignores_conditions_is_found_at_start_up(faulty: Faulty) -> None:
    def heedless(asked: Asked) -> Reply:
        reply = asked.forward()
        return Reply(200 if faulty.is_s3 else 201, b"", (("ETag", '"e"'),)) if reply.status in (409, 412) else reply

    faulty.proxy.plan(heedless, method="PUT", times=None)
    with pytest.raises(ConfigurationError, match="ignores the conditions of writes"):
        await faulty.store().probe()
    faulty.proxy.clear()
    await faulty.store().probe()
    assert await faulty.direct.list("") == []


async def test_a_document_put_there_by_somebody_else_is_read_as_it_is(faulty: Faulty) -> None:
    store, data = faulty.store(), b'{"by": "hand"}'
    await faulty.direct.put(NAME, b"x")

    def replaced(asked: Asked) -> Reply:
        reply = asked.forward()
        return reply._replace(body=data)

    faulty.proxy.plan(replaced)
    found = await read(store, NAME)
    assert found is not None
    assert found[0] == data


async def test_what_is_stored_is_readable_json(faulty: Faulty) -> None:
    bodies: list[bytes] = []

    def seen(asked: Asked) -> Reply:
        reply = asked.forward()
        bodies.append(reply.body)
        return reply

    await faulty.direct.put(NAME, b'{"a": 1}')
    faulty.proxy.plan(seen)
    await faulty.store().get(NAME)
    document, mark, end = bodies[0].split(b"\n")
    assert (document, end) == (b'{"a": 1}', b"")
    assert len(json.loads(mark)) == 32


async def test_after_a_restored_snapshot_everything_is_made_anew(faulty: Faulty) -> None:
    leapt = 0.0
    store = ObjectStore(faulty.store().place, wall=lambda: time.time() + leapt)
    await store.put(NAME, b"x")
    assert faulty.proxy.log == ["PUT"]
    with FaultProxy(faulty.proxy.target) as other:
        faulty.point_to(other.port)
        await store.put(NAME, b"y")
        assert other.log == []
        leapt = 3600.0
        await store.put(NAME, b"z")
        await store.get(NAME)
        assert other.log == ["PUT", "GET"]
