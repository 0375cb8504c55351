"""`af-hosting inbox list|show|retry|drop`, as an operator uses it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_framework_hosting import InboundUpdate
from agent_framework_hosting.cli import main
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.head import FORMAT, Head, Hold, Lease, encode_head
from agent_framework_hosting.state.letters import Letters
from agent_framework_hosting.state.mail import (
    Letter,
    Waiting,
    decode_waiting,
    encode_waiting,
    set_aside,
    set_damaged_aside,
)
from agent_framework_hosting.state.store import StateStore, read
from tests.support.stores import FaultStore, away

KEY = "chat:ada"
TOKEN = "a-reply-token"
WORDS = "what ada said"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "state")


@pytest.fixture
def store(place: str) -> StateStore:
    return DirectoryStore(Path(place) / "sessions" / "v1")


@pytest.fixture
def call(place: str, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run `af-hosting inbox` on the place; gives its exit code and what it wrote."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["inbox", *arguments, "--state-dir", place])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def update(number: int, key: str = KEY) -> InboundUpdate:
    payload = json.dumps(f"{WORDS} {number}").encode()
    return InboundUpdate("chat", f"u{number}", key, payload, str(number), 2_000_000_000.0, reply_token=TOKEN)


def place_waiting(store: StateStore, number: int, key: str = KEY) -> Letter:
    letter = Letter.of(update(number, key))
    asyncio.run(store.put(letter.waiting, encode_waiting(update(number, key), 1_000_000.0, {})))
    return letter


def place_dead(store: StateStore, number: int, error: str = "ValueError: no", *, saved: bool = False) -> Letter:
    letter = Letter.of(update(number))
    waiting = Waiting(
        format=FORMAT,
        key=KEY,
        channel="chat",
        id=f"u{number}",
        order=str(number),
        payload=update(number).payload,
        accepted=1_000_000.0,
        reply_token=TOKEN,
    )
    asyncio.run(store.put(letter.dead, set_aside(waiting, attempts=5, error=error, now=1_000_100.0, saved=saved)))
    return letter


def place_head(store: StateStore, letter: Letter, **fields: Any) -> None:
    head = Head(format=FORMAT, key=KEY, rev="r", epoch=1, session=KEY, **fields)
    asyncio.run(store.put(f"k/{letter.path}/head", encode_head(head)))


def test_list_tells_where_updates_stand(store: StateStore, call: Call) -> None:
    letters = [place_waiting(store, number) for number in range(4)]
    dead = place_dead(store, 7)
    done, working, held, _ = (letter.uid for letter in letters)
    place_head(
        store,
        letters[0],
        done={done[:32]: 1},
        lease=Lease("t", 9.0, updates=(working,)),
        hold={working: Hold(1), held: Hold(2, "OSError: away", 1_000_060.0)},
    )
    code, out, err = call("list")
    assert (code, err) == (0, "")
    lines = [line.split()[:2] for line in out.splitlines()[1:]]
    assert lines == [
        [working[:12], "working"],
        [held[:12], "held"],
        [letters[3].uid[:12], "waiting"],
        [dead.uid[:12], "dead"],
    ]
    assert "OSError: away" in out
    assert "ValueError: no" in out
    _, out, _ = call("list", "--dead", "--json")
    [shown] = map(json.loads, out.splitlines())
    assert shown == {
        "uid": dead.uid,
        "state": "dead",
        "attempts": 5,
        "key": KEY,
        "channel": "chat",
        "id": "u7",
        "order": "7",
        "accepted": 1_000_000.0,
        "expires": None,
        "bytes": len(update(7).payload),
        "set_aside": 1_000_100.0,
        "turn_saved": False,
        "error": "ValueError: no",
    }


def test_what_was_said_is_shown_only_where_it_is_asked_for_and_a_reply_token_never(
    store: StateStore, call: Call
) -> None:
    letter, dead = place_waiting(store, 1), place_dead(store, 2)
    for arguments in (["list"], ["list", "--json"], ["show", letter.uid[:8]], ["show", dead.uid[:8]]):
        _, out, _ = call(*arguments)
        assert WORDS not in out
        assert TOKEN not in out
    for found in (letter, dead):
        _, out, _ = call("show", found.uid[:8], "--payload")
        assert WORDS in json.loads(out)["payload"]
        assert TOKEN not in out


def test_what_was_set_aside_waits_again_under_a_uid_of_its_own(store: StateStore, call: Call) -> None:
    dead = place_dead(store, 1)
    code, out, _ = call("retry", dead.uid[:8])
    assert code == 0
    [name] = asyncio.run(store.list("in/"))
    again = Letter.named(name)
    assert (again.path, again.order) == (dead.path, dead.order)
    assert again.uid != dead.uid
    assert again.uid[:12] in out
    assert asyncio.run(store.list("dead/")) == []
    found = asyncio.run(read(store, name))
    assert found is not None
    waiting = decode_waiting(name, found[0])
    assert (waiting.id, waiting.payload, waiting.reply_token) == ("u1", update(1).payload, None)


async def test_a_retry_that_breaks_off_and_is_repeated_enters_one_update() -> None:
    from agent_framework_hosting.state.memory import MemoryStore

    store = FaultStore(MemoryStore())
    letters = Letters(store, wall=lambda: 0.0)
    await asyncio.to_thread(place_dead, store, 1)
    [seen] = [seen async for seen in letters.all()]
    store.plan(away, kind="delete")
    with pytest.raises(Exception, match="Planned"):
        await letters.retry(seen)
    uid = await letters.retry(await letters.find(seen.letter.uid))
    assert [Letter.named(name).uid for name in await store.list("in/")] == [uid]
    assert await store.list("dead/") == []


def test_an_update_whose_turn_is_saved_is_not_run_again_unawares(store: StateStore, call: Call) -> None:
    saved, other = place_dead(store, 1, saved=True), place_dead(store, 2)
    assert json.loads(call("show", saved.uid)[1])["turn_saved"] is True
    code, out, err = call("retry", "--all-dead")
    assert (code, "--run-again" in err, "1 update in all" in out) == (1, True, True)
    assert asyncio.run(store.list("dead/")) == [saved.dead]
    assert call("retry", saved.uid, "--run-again")[0] == 0
    assert len(asyncio.run(store.list("in/"))) == 2
    assert other.uid not in str(asyncio.run(store.list("dead/")))


def test_what_is_no_update_is_not_shown(store: StateStore, call: Call) -> None:
    letter = place_waiting(store, 1)
    for name in (f"in/{letter.path}/nodot", f"in/{letter.path}/0.short", "in/straggler"):
        asyncio.run(store.put(name, b"x"))
    assert len(call("list")[1].splitlines()) == 2


def test_all_that_were_set_aside_at_once(store: StateStore, call: Call) -> None:
    for number in range(3):
        place_dead(store, number)
    place_waiting(store, 9)
    assert "3 updates in all" in call("retry", "--all-dead")[1]
    assert len(asyncio.run(store.list("in/"))) == 4
    place_dead(store, 5)
    call("drop", "--all-dead")
    assert asyncio.run(store.list("dead/")) == []
    assert len(asyncio.run(store.list("in/"))) == 4


def test_drop_removes_one_that_waits(store: StateStore, call: Call) -> None:
    letter, other = place_waiting(store, 1), place_waiting(store, 2)
    assert call("drop", letter.uid[:8])[0] == 0
    assert asyncio.run(store.list("in/")) == [other.waiting]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "abcd"], "no update"),
        (["show", "ab"], "at least 4 digits"),
        (["drop", "abcd"], "no update"),
    ],
)
def test_says_what_is_wrong(store: StateStore, call: Call, arguments: list[str], said: str) -> None:
    place_dead(store, 1)
    code, _, err = call(*arguments)
    assert code == 1
    assert said in err


def test_only_what_was_set_aside_is_tried_again(store: StateStore, call: Call) -> None:
    letter = place_waiting(store, 1)
    code, _, err = call("retry", letter.uid)
    assert (code, "set aside" in err) == (1, True)
    assert asyncio.run(store.list("in/")) == [letter.waiting]


def test_what_could_never_be_read_is_shown_and_can_be_dropped_only(store: StateStore, call: Call) -> None:
    letter = Letter.of(update(1))
    document = set_damaged_aside(KEY, b"rubbish", attempts=1, error="It is damaged.", now=1.0)
    asyncio.run(store.put(letter.dead, document))
    assert "It is damaged." in call("list")[1]
    code, _, err = call("retry", letter.uid)
    assert (code, "dropped" in err) == (1, True)
    assert call("drop", letter.uid)[0] == 0


def test_damaged_documents_do_not_keep_the_others_from_being_shown(store: StateStore, call: Call) -> None:
    letter, dead = place_waiting(store, 1), place_dead(store, 2)
    for name in (letter.waiting, dead.dead, f"k/{letter.path}/head"):
        asyncio.run(store.put(name, b"rubbish"))
    other = place_waiting(store, 3, "another")
    _, out, _ = call("list")
    for found in (letter, dead, other):
        assert found.uid[:12] in out


def test_either_uids_or_all_are_asked_for(store: StateStore, call: Call) -> None:
    place_dead(store, 1)
    for arguments in (["retry"], ["drop", "--all-dead", "abcd"]):
        with pytest.raises(SystemExit) as ended:
            call(*arguments)
        assert ended.value.code == 2
    assert len(asyncio.run(store.list("dead/"))) == 1
