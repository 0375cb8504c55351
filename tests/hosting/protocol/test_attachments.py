"""What a channel keeps with a conversation: saved with its turns, copied, replaced and removed with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_framework_hosting import ChannelContext, HostedRunResult
from agent_framework_hosting.errors import StateUnavailable, TurnConflict, TurnRepeated, UnknownConversation
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.deletion import delete_conversation
from agent_framework_hosting.state.retention import Pruner
from tests.hosting.protocol.diary import SHORT, Diary, hosted, read_diary, request, say
from tests.support.faults import ManualClock
from tests.support.stores import CountingStore, FaultStore, away, lost_answer, lost_request, twice

KEY, COPY = "chat:1", "chat:1 copy"


@pytest.fixture(params=[0, 140_000], ids=["inline", "large"])
def size(request: pytest.FixtureRequest) -> int:
    return request.param


def said(text: str, size: int = 0) -> bytes:
    return f'"{text}{" " * size}"'.encode()


def attaching(size: int = 0) -> Any:
    """Attach the answer's text."""

    def attach(hosted: HostedRunResult[Any]) -> bytes:
        return said(hosted.result.text, size)

    return attach


async def run(context: ChannelContext, key: str, word: str, size: int = 0, **how: Any) -> str:
    hook = how.pop("response_hook", None)
    asked = request(key, word, **how)
    return (await context.run(asked, attach=attaching(size), response_hook=hook)).result.text


async def attached(context: ChannelContext, key: str) -> str | None:
    found = await context.attachment(key)
    return None if found is None else found.decode().strip('"').strip()


async def test_it_is_saved_with_the_turn_and_stays_until_it_is_replaced(store: FaultStore, size: int) -> None:
    async with hosted(store, Diary()) as context:
        assert await attached(context, KEY) is None
        await run(context, KEY, "one", size)
        assert await attached(context, KEY) == "1: one"
        await say(context, KEY, "two")
        assert await attached(context, KEY) == "1: one"
        await run(context, KEY, "three", size)
        assert await attached(context, KEY) == "3: three"
        await context.reset_session(KEY)
        assert await attached(context, KEY) == "3: three"


async def test_a_fresh_turn_costs_no_round_trip_more(store: FaultStore) -> None:
    counting = CountingStore(store)
    async with hosted(counting, Diary()) as context:
        await run(context, KEY, "one", fresh=True)
        assert counting.rounds == 1
        counting.reset()
        assert await run(context, COPY, "two", fresh=True, parent=KEY) == "2: two"
        assert counting.rounds == 2
        counting.reset()
        assert await attached(context, COPY) == "2: two"
        assert counting.rounds == 1


async def test_what_is_replaced_or_in_use_is_told_apart_by_a_prune(store: FaultStore) -> None:
    clock = ManualClock()
    async with hosted(store, Diary()) as context:
        for word in ("one", "two", "three"):
            await run(context, KEY, word, 140_000)
        await Pruner([store], retention=None, sleep=clock.sleep).run()
        assert await attached(context, KEY) == "3: three"
        names = [name for name in await store.inner.list("k/") if "/b/" in name]
        assert len(names) == 1
        assert await delete_conversation([store], KEY)
        assert await attached(context, KEY) is None
        assert [name for name in await store.inner.list("k/") if "/b/" in name] == []
        assert not await delete_conversation([store], KEY)


async def test_a_copy_is_continued_on_its_own_and_has_the_attachment(store: FaultStore, size: int) -> None:
    async with hosted(store, Diary()) as context:
        await context.begin(KEY, b'"mine"')
        await run(context, KEY, "one", size, existing=True, copy=COPY)
        assert (await attached(context, KEY), await attached(context, COPY)) == ("mine", "1: one")
        await say(context, KEY, "two")
        assert await say(context, "fork", "other", fresh=True, parent=COPY) == "2: other"
        assert await say(context, COPY, "more") == "2: more"
        assert await say(context, KEY, "three") == "3: three"
        assert await read_diary(store, "fork") == ["one", "other"]


async def test_what_must_exist_is_not_begun(store: FaultStore) -> None:
    async with hosted(store, Diary()) as context:
        with pytest.raises(UnknownConversation):
            await say(context, KEY, "one", existing=True)
        assert await store.inner.list("k/") == []
        await context.begin(KEY, b"1")
        assert await say(context, KEY, "one", existing=True) == "1: one"
        await delete_conversation([store], KEY)
        with pytest.raises(UnknownConversation):
            await say(context, KEY, "two", existing=True)
        with pytest.raises(UnknownConversation):
            await say(context, "other", "two", fresh=True, parent=KEY)


async def test_a_response_hook_decides_what_is_attached(store: FaultStore, size: int) -> None:
    seen: list[str | None] = []

    async def hook(hosted: HostedRunResult[Any], **how: Any) -> HostedRunResult[Any]:
        seen.append(await attached(context, KEY))
        hosted.result.messages[0].contents[0].text = "hidden"
        return hosted

    async with hosted(store, Diary()) as context:
        await run(context, KEY, "one", size, response_hook=hook)
        assert (await attached(context, KEY) or "").startswith("hidden")
        assert seen == [None]


@pytest.mark.parametrize("fault", [away, lost_answer, lost_request, twice])
async def test_one_operation_that_goes_wrong_does_not_matter(store: FaultStore, size: int, fault: Any) -> None:
    async with hosted(store, Diary()) as context:
        for nth in range(1, 7):
            key, copy = f"chat:{nth}", f"copy:{nth}"
            store.plan(fault, nth=nth)
            try:
                answer = await run(context, key, "one", size, copy=copy)
            except StateUnavailable:
                store.clear()
                copy += " again"  # A copy is made once, under a key of its own.
                answer = await run(context, key, "one", size, copy=copy)
            store.clear()
            assert await attached(context, copy) == answer


async def test_what_is_attached_afterwards_waits_for_turns(store: FaultStore) -> None:
    """Neither what a turn saves nor what a hook's result attaches gets lost."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def hook(hosted: HostedRunResult[Any], **how: Any) -> HostedRunResult[Any]:
        asyncio.get_running_loop().create_task(say(context, KEY, "two")).add_done_callback(done.append)
        await began.wait()
        go_on.set()
        return hosted

    async def between(word: str) -> None:
        if word == "two":
            began.set()
            await go_on.wait()

    done: list[asyncio.Task[str]] = []
    async with hosted(store, Diary(between)) as context:
        await run(context, KEY, "one", response_hook=hook)
        assert [task.result() for task in done] == ["2: two"]
        assert await attached(context, KEY) == "1: one"
        assert await read_diary(store, KEY) == ["one", "two"]


async def test_a_deletion_wins_over_a_running_turn(store: FaultStore) -> None:
    async def between(word: str) -> None:
        await delete_conversation([store], KEY)

    async with hosted(store, Diary(between)) as context:
        await context.begin(KEY, b'"before"')
        with pytest.raises(TurnConflict):
            await run(context, KEY, "one", existing=True)
        assert await attached(context, KEY) is None
    assert list(await store.inner.list(f"k/{conversation_path(KEY)}/b/")) == []


async def test_an_amendment_waits_for_nobody_and_stops_who_runs(store: FaultStore, size: int) -> None:
    began, stopped = asyncio.Event(), asyncio.Event()

    async def between(word: str) -> None:
        if word == "two":
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

    async with hosted(store, Diary(between), limits=SHORT) as context:
        await run(context, KEY, "one", size)
        running = asyncio.create_task(run(context, KEY, "two"))
        await began.wait()
        seen: list[bytes | None] = []

        def change(found: bytes | None) -> bytes:
            seen.append(found)
            return b'"amended"'

        assert await context.amend(KEY, change) == b'"amended"'
        assert seen == [said("1: one", size)]
        with pytest.raises(TurnConflict):
            await running  # At its next renewal.
        assert stopped.is_set()
        assert await attached(context, KEY) == "amended"
        assert await say(context, KEY, "three") == "2: three"


async def test_amendments_do_not_get_lost(store: FaultStore) -> None:
    async with hosted(store, Diary()) as context, hosted(store, Diary()) as other:
        await context.begin(KEY, b"0")

        def one_more(found: bytes | None) -> bytes:
            assert found is not None
            return str(int(found) + 1).encode()

        await asyncio.gather(*(each.amend(KEY, one_more) for each in (context, other) * 5))
        assert await context.attachment(KEY) == b"10"


async def test_an_amendment_that_is_not_wanted_changes_nothing(store: FaultStore) -> None:
    async with hosted(store, Diary()) as context:
        with pytest.raises(UnknownConversation):
            await context.amend(KEY, lambda found: b"1")
        await run(context, KEY, "one")
        puts = len(store.names("put"))
        assert await context.amend(KEY, lambda found: None) == b'"1: one"'
        assert len(store.names("put")) == puts
        with pytest.raises(ValueError, match="not this"):
            await context.amend(KEY, refuse)
        assert await say(context, KEY, "two") == "2: two"


def refuse(found: bytes | None) -> bytes:
    raise ValueError("not this")


@pytest.mark.parametrize("fault", [away, lost_answer, lost_request, twice])
async def test_an_amendment_through_a_failing_store(store: FaultStore, size: int, fault: Any) -> None:
    async with hosted(store, Diary()) as context:
        for nth in range(1, 5 if size else 3):
            key = f"{KEY} {nth}"
            await run(context, key, "one", size)
            store.plan(fault, nth=nth)
            wanted = said("amended", size)
            try:
                await context.amend(key, lambda found, wanted=wanted: wanted)
            except StateUnavailable:
                pass
            else:
                store.clear()
                assert await attached(context, key) == "amended"
            store.clear()
            assert await context.amend(key, lambda found, wanted=wanted: wanted) == wanted
            assert await say(context, key, "two") == "2: two"


async def test_a_parent_that_is_not_admitted_is_not_continued(store: FaultStore, size: int) -> None:
    def admit(found: bytes | None) -> None:
        seen.append(found)
        if found is None:
            raise UnknownConversation()

    seen: list[bytes | None] = []
    async with hosted(store, Diary()) as context:
        await say(context, KEY, "one")
        for fresh in (True, False):
            with pytest.raises(UnknownConversation):
                await run(context, f"{COPY} {fresh}", "two", fresh=fresh, parent=KEY, admit=admit)
        assert seen == [None, None]
        await run(context, KEY, "two", size)
        assert await run(context, COPY, "three", fresh=True, parent=KEY, admit=admit) == "3: three"
        assert seen[2] == said("2: two", size)


async def test_a_copy_takes_the_place_of_what_it_was_to(store: FaultStore) -> None:
    async with hosted(store, Diary()) as context:
        await context.begin(COPY, b'"queued"')
        assert await run(context, KEY, "one", copy=COPY, copy_over=b'"queued"') == "1: one"
        assert await attached(context, COPY) == "1: one"
        assert await say(context, COPY, "two") == "2: two"
        with pytest.raises(TurnConflict):
            await run(context, KEY, "two", copy=COPY, copy_over=b'"queued"')
        assert await say(context, KEY, "three") == "3: three"


async def test_what_was_begun_is_not_begun_again(store: FaultStore) -> None:
    async with hosted(store, Diary()) as context:
        await context.begin(KEY, b'"one"', idempotency_key="a")
        for key in ("a", "b", None):
            with pytest.raises(TurnConflict):
                await context.begin(KEY, b'"two"', idempotency_key=key)
        with pytest.raises(TurnRepeated):
            await run(context, KEY, "one", turn="a")
        assert await attached(context, KEY) == "one"


async def test_a_conversation_that_has_no_turn_is_none(store: FaultStore) -> None:
    """A lease alone begins nothing."""

    async def between(word: str) -> None:
        raise ValueError("no")

    async with hosted(store, Diary(between)) as context:
        with pytest.raises(ValueError, match="no"):
            await say(context, KEY, "one")
        with pytest.raises(UnknownConversation):
            await run(context, KEY, "two", existing=True)
        with pytest.raises(UnknownConversation):
            await run(context, COPY, "two", parent=KEY)
        with pytest.raises(UnknownConversation):
            await context.amend(KEY, lambda found: b"1")
