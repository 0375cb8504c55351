from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from agent_framework_hosting.auth import Auth, AuthenticationFailed, Authenticator, Unauthenticated
from agent_framework_hosting.errors import ConfigurationError, StateUnavailable
from agent_framework_hosting.requests import ChannelIdentity

OPS_KEY = "ops-key-0123456789"
OLD_KEY = "old-key-0123456789"
WEB_KEY = "web-key-0123456789"


def request(*authorizations: str, **headers: str) -> Request:
    pairs = [(b"authorization", value.encode("latin-1")) for value in authorizations]
    pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": pairs})


def keys(**how: Any) -> Authenticator:
    return Authenticator({"ops": [OPS_KEY, OLD_KEY], "web": WEB_KEY}, channel="test", **how)


@pytest.mark.parametrize(("key", "name"), [(OPS_KEY, "ops"), (OLD_KEY, "ops"), (WEB_KEY, "web")])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_a_key_names_its_caller(key: str, name: str, scheme: str) -> None:
    identity = await keys()(request(f"{scheme} {key}"))
    assert identity is not None
    assert (identity.channel, identity.native_id) == ("test", name)


@pytest.mark.parametrize(
    "authorizations",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (f"Basic {OPS_KEY}",),
        (f"Bearer {OPS_KEY}x",),
        (f"Bearer {OPS_KEY[:-1]}",),
        (f"Bearer {OPS_KEY.upper()}",),
        ("Bearer ops",),
        ("Bearer \xff\xfe",),
        (f"Bearer {OPS_KEY}", f"Bearer {OPS_KEY}"),
    ],
)
async def test_what_is_not_one_known_key_is_refused(authorizations: tuple[str, ...]) -> None:
    with pytest.raises(Unauthenticated):
        await keys()(request(*authorizations))


async def test_with_allow_anonymous_only_a_missing_key_is_anonymous() -> None:
    authenticator = keys(allow_anonymous=True)
    assert await authenticator(request()) is None
    with pytest.raises(Unauthenticated):
        await authenticator(request("Bearer wrong-key-0123456789"))
    with pytest.raises(Unauthenticated):
        await authenticator(request(""))


async def test_without_auth_everybody_is_anonymous() -> None:
    assert await Authenticator(None, channel="test")(request("Bearer anything")) is None


def test_an_authenticator_knows_whether_access_was_decided_on() -> None:
    assert keys().closed
    assert Authenticator(None, channel="test", allow_anonymous=True).closed
    assert not Authenticator(None, channel="test").closed


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({}, "map"),
        (["key"], "map"),
        ("a key of some length", "map"),
        ({"ops": ""}, "16 characters"),
        ({"ops": "short"}, "16 characters"),
        ({"ops": "fifteen-letters"}, "16 characters"),
        ({"ops": "has a blank in the middle"}, "visible ASCII"),
        ({"ops": "schlüssel-schlüssel"}, "visible ASCII"),
        ({"ops": []}, "'ops'"),
        ({"ops": None}, "'ops'"),
        ({"ops": b"bytes-key-0123456789"}, "'ops'"),
        ({"ops": [OPS_KEY, None]}, "16 characters"),
        ({"": OPS_KEY}, "name"),
        ({"a\nb": OPS_KEY}, "name"),
        ({"a\ud800": OPS_KEY}, "name"),
        ({7: OPS_KEY}, "name"),
        ({"ops": OPS_KEY, "web": OPS_KEY}, "'ops' and 'web'"),
        ({"ops": [OPS_KEY], "web": [WEB_KEY, OPS_KEY]}, "'ops' and 'web'"),
    ],
)
def test_unusable_keys_are_refused_at_construction_without_being_shown(auth: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        Authenticator(auth, channel="test")
    assert "key-0123456789" not in str(caught.value)


@pytest.mark.parametrize("names", ["ada", "ada lovelace, countess", ["ada"], ["ada", "bob"], [None]], ids=repr)
def test_a_mapping_the_wrong_way_round_is_refused_without_showing_its_keys(names: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'test'.*callers' names to keys") as caught:
        Authenticator({OPS_KEY: names}, channel="test")
    assert OPS_KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)


def test_a_key_of_sixteen_characters_and_one_twice_for_one_caller_are_usable() -> None:
    Authenticator({"ops": ["sixteen-letters!", "sixteen-letters!"]}, channel="test")


async def test_a_later_change_of_the_mapping_changes_nothing() -> None:
    mapping = {"ops": OPS_KEY}
    authenticator = Authenticator(mapping, channel="test")
    mapping["eve"] = WEB_KEY
    with pytest.raises(Unauthenticated):
        await authenticator(request(f"Bearer {WEB_KEY}"))


async def test_keys_stand_in_no_repr_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    authenticator = keys()
    with caplog.at_level(logging.DEBUG):
        await authenticator(request(f"Bearer {OPS_KEY}"))
        with pytest.raises(Unauthenticated) as caught:
            await authenticator(request("Bearer wrong-key-0123456789"))
    shown = repr(authenticator) + repr(authenticator.identify) + str(caught.value) + caplog.text
    assert "0123456789" not in shown


def sync_auth(found: Request) -> ChannelIdentity | None:
    user = found.headers.get("x-user")
    return None if user is None else ChannelIdentity("platform", user, {"role": "admin"})


async def async_auth(found: Request) -> ChannelIdentity | None:
    return sync_auth(found)


@pytest.mark.parametrize("auth", [sync_auth, async_auth])
async def test_a_callable_may_be_sync_or_async(auth: Auth) -> None:
    authenticator = Authenticator(auth, channel="test")
    identity = await authenticator(request(**{"x-user": "ada"}))
    assert identity is not None
    assert (identity.native_id, identity.attributes) == ("ada", {"role": "admin"})
    with pytest.raises(Unauthenticated):
        await authenticator(request())


async def test_a_callable_with_allow_anonymous_lets_in_who_shows_nothing() -> None:
    authenticator = Authenticator(sync_auth, channel="test", allow_anonymous=True)
    assert await authenticator(request()) is None
    with pytest.raises(Unauthenticated):
        await authenticator(request("Bearer of-another-platform"))


@pytest.mark.parametrize("allow_anonymous", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        ValueError("the secret is hunter2"),
        TimeoutError(),
        True,
        "ada",
        ChannelIdentity("test", ""),
        ChannelIdentity("test", None),  # pyright: ignore[reportArgumentType]
        ChannelIdentity("test", 7),  # pyright: ignore[reportArgumentType]
        ChannelIdentity("test", "\ud800"),
    ],
)
async def test_a_callable_that_fails_lets_nobody_in(
    answer: Any, allow_anonymous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def auth(found: Request) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with caplog.at_level(logging.ERROR, "agent_framework.hosting"), pytest.raises(AuthenticationFailed) as caught:
        await Authenticator(auth, channel="test", allow_anonymous=allow_anonymous)(request())
    assert "hunter2" not in str(caught.value)
    assert "auth of channel 'test' failed" in caplog.text


@pytest.mark.parametrize("error", [Unauthenticated("no"), StateUnavailable("away"), HTTPException(403, "no")])
async def test_a_callable_may_refuse_in_its_own_words(error: Exception) -> None:
    def auth(found: Request) -> ChannelIdentity | None:
        raise error

    with pytest.raises(type(error)) as caught:
        await Authenticator(auth, channel="test", allow_anonymous=True)(request())
    assert caught.value is error
