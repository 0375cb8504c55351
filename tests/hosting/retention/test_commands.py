"""`af-hosting state list|show|delete|prune`, as an operator uses it."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_framework_hosting.cli import main
from agent_framework_hosting.keys import conversation_path, isolation_key
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.documents import all_names
from agent_framework_hosting.state.head import Hold, Ran, Snapshot
from agent_framework_hosting.state.people import person
from agent_framework_hosting.state.store import StateStore
from tests.hosting.protocol.diary import LARGE, Diary, hosted, say
from tests.hosting.retention.written import (
    CONTENT,
    DAY,
    LEASE,
    archive,
    bare_session,
    change_head,
    document,
    get_head,
    head_of,
    put_head,
)

KEY = isolation_key("chat", "ada", "tea")
SECRET = "a-reply-token"
HOST = """
from datetime import timedelta
from agent_framework_hosting import AgentFrameworkHost, HostLimits
from tests.support.targets import ScriptedAgent

limits = HostLimits(retention=timedelta(days=2))
limited = AgentFrameworkHost(ScriptedAgent(), channels=[], state_dir="state", limits=limits)
forgetful = AgentFrameworkHost(ScriptedAgent(), channels=[])
"""


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "state")


@pytest.fixture
def store(place: str) -> StateStore:
    return DirectoryStore(Path(place) / "sessions" / "v1")


def run(work: Any) -> Any:
    return asyncio.run(work)


def days_ago(days: float) -> float:
    return time.time() - days * DAY


async def write(store: StateStore, key: str = KEY, *, days: float = 1, **fields: Any) -> None:
    path = conversation_path(key)
    await put_head(store, key, when=days_ago(days), **fields)
    await store.put(f"in/{path}/0001.u1", document(key=key, text=CONTENT, reply_token=SECRET))
    await store.put(f"dead/{path}/0000.u0", document(days_ago(3), error="boom", attempts=5, reply_token=SECRET))


@pytest.fixture
def call(place: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command on the place; gives its exit code and what it wrote."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["state", arguments[0], "--state-dir", place, *arguments[1:]])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


Call = Callable[..., tuple[int, str, str]]


def test_a_list_shows_each_conversation_on_a_line(store: StateStore, call: Call) -> None:
    run(write(store))
    run(put_head(store, "odd \x1b[2J\nkey", when=days_ago(2), lease=LEASE, snapshot=Snapshot(size=4096, name="x")))
    run(put_head(store, "undated"))
    run(put_head(store, "gone", key="", deleted=days_ago(1), session=""))
    run(store.put(head_of("damaged"), b"damaged"))
    run(store.put(f"in/{conversation_path('new')}/0001.u9", document(key="new", reply_token=SECRET)))
    code, out, err = call("list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["HASH", "LAST", "USED", "SIZE", "UPDATES", "STATE", "KEY"]
    rows = {line.split(maxsplit=5)[0]: line.split(maxsplit=5)[1:] for line in lines[1:]}
    assert len(rows) == 5 and all(len(digits) == 12 for digits in rows)

    def row(key: str) -> str:
        return " ".join(" ".join(rows[conversation_path(key)[3:15]]).split())

    assert row(KEY).endswith("Z 0 B 1 idle chat:ada:tea")
    assert row("odd \x1b[2J\nkey").endswith('Z 4.0 KB 0 leased "odd \\u001b[2J\\nkey"')
    assert row("undated") == "unknown 0 B 0 idle undated"
    assert row("damaged") == "unknown 0 B 0 damaged (unknown)"
    assert row("new") == "unknown 0 B 1 new new"
    assert SECRET not in out
    assert len(call("list", "--deleted")[1].splitlines()) == 7


def test_a_list_for_programs_is_a_json_object_a_line(store: StateStore, call: Call) -> None:
    run(write(store))
    code, out, _ = call("list", "--json")
    (row,) = map(json.loads, out.splitlines())
    assert code == 0 and row["key"] == KEY and row["hash"] == conversation_path(KEY)[3:]
    assert row["updates"] == 1 and row["state"] == "idle" and row["last_used"] < time.time()


def test_show_tells_all_but_what_was_said(store: StateStore, call: Call) -> None:
    held = {"u1": Hold(2, "the model is away")}
    run(write(store, hold=held, lease=LEASE, ran=Ran("u1"), people=(person("chat", "ada"),)))
    run(store.put(f"k/{conversation_path(KEY)}/s/0/000000000001", archive(KEY, days_ago(4))))
    code, out, err = call("show", KEY)
    assert (code, err) == (0, "")
    for said in ("key: chat:ada:tea", "state: leased", "the model is away", "boom", '"attempts": 5', "archives: 1"):
        assert said in out
    assert SECRET not in out and CONTENT not in out and LEASE.token not in out


@pytest.mark.parametrize("how", [(), ("--json",)], ids=["text", "json"])
def test_show_tells_what_was_said_where_it_is_asked_for(store: StateStore, call: Call, how: tuple[str, ...]) -> None:
    run(write(store))
    run(store.put(f"k/{conversation_path(KEY)}/s/0/000000000001", archive(KEY, days_ago(4))))
    run(store.put(f"k/{conversation_path(KEY)}/s/0/000000000002", bare_session(KEY)))

    async def talk() -> None:
        async with hosted(store, Diary(padding=LARGE)) as context:
            await say(context, KEY, "a word of mine")

    run(talk())
    code, out, _ = call("show", "--hash", conversation_path(KEY)[3:11].upper(), "--content", *how)
    assert code == 0
    assert "a word of mine" in out and out.count(CONTENT) == 3
    assert SECRET not in out and "reply_token" not in out
    if how:
        shown = json.loads(out)
        assert shown["key"] == KEY and len(shown["archives"]) == 2 and len(shown["updates"]) == 1


def test_nothing_is_shown_of_what_is_not_there(store: StateStore, call: Call) -> None:
    run(write(store))
    for arguments in (["nobody"], ["--hash", "0000"], ["--hash", "ffffffff"]):
        for action in ("show", "delete"):
            code, out, err = call(action, *arguments)
            assert (code, out) == (1, "") and err == "af-hosting: Nothing is stored of this conversation here.\n"


def test_a_hash_has_to_tell_one_conversation(store: StateStore, call: Call) -> None:
    taken: dict[str, str] = {}
    number = 0
    while True:  # two keys whose hashes begin alike
        number += 1
        beginning = conversation_path(str(number))[3:7]
        if beginning in taken:
            break
        taken[beginning] = str(number)
    for key in (taken[beginning], str(number)):
        run(put_head(store, key))
    code, _, err = call("show", "--hash", beginning)
    assert code == 1 and f"Several conversations have a hash that begins with {beginning}" in err
    whole = conversation_path(str(number))[3:]
    assert f"key: {number}\n" in call("show", "--hash", whole)[1]
    for wrong in ("abc", "xyzw", "../..", "a" * 65):
        assert "no beginning of a hash" in call("show", "--hash", wrong)[2]


@pytest.mark.parametrize("key", ["", "..", "a/b", "🦊", "x" * 2000, "Case", " "], ids=lambda key: ascii(key[:10]))
def test_odd_keys_are_keys(store: StateStore, call: Call, key: str) -> None:
    run(put_head(store, key, when=days_ago(1)))
    run(put_head(store, "case", when=days_ago(1)))
    assert call("show", key)[0] == 0
    code, out, _ = call("delete", key, "--yes")
    assert code == 0 and out.splitlines()[-1] == "Deleted 1 conversation and 0 documents beside them."
    assert run(get_head(store, key)).deleted is not None
    assert run(get_head(store, "case")).deleted is None


def test_a_key_with_a_dash_comes_after_two(store: StateStore, place: str) -> None:
    run(put_head(store, "-key"))
    assert main(["state", "delete", "--state-dir", place, "--yes", "--", "-key"]) == 0


def test_a_key_that_no_terminal_can_type_goes_by_its_hash(store: StateStore, call: Call) -> None:
    run(put_head(store, "nul\0l", when=days_ago(1)))
    code, out, _ = call("delete", "--hash", conversation_path("nul\0l")[3:15], "--yes")
    assert code == 0 and '"nul\\u0000l"' in out
    assert run(get_head(store, "nul\0l")).deleted is not None


def test_a_deletion_tells_what_goes_and_asks_first(
    store: StateStore, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(write(store))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    code, out, err = call("delete", KEY)
    assert code == 1 and KEY in out and err == "af-hosting: Nobody is there to be asked: say --yes to delete this.\n"
    for answer, deleted in (("n\n", False), ("\n", False), ("yes\n", True)):
        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        code, out, _ = call("delete", KEY)
        assert code == (0 if deleted else 1)
        assert ("Deleted 1 conversation" if deleted else "Nothing was deleted.") in out
        assert (run(get_head(store, KEY)).deleted is not None) is deleted


def test_a_dry_deletion_deletes_nothing(store: StateStore, call: Call) -> None:
    run(write(store))
    names = run(all_names(store, ""))
    code, out, _ = call("delete", KEY, "--dry-run")
    assert code == 0 and "Nothing was deleted (--dry-run)." in out
    assert run(all_names(store, "")) == names


def test_a_running_turn_is_waited_for(store: StateStore, call: Call) -> None:
    run(write(store, lease=LEASE))
    code, _, err = call("delete", KEY, "--yes", "--settle", "0")
    assert code == 0 and "A turn was running: waiting 0 s" in err
    run(write(store, "other", lease=LEASE))
    code, out, err = call("delete", "other", "--yes", "--no-wait")
    assert (code, err) == (0, "") and "goes with the next prune" in out


def test_all_that_is_somebodys_goes_and_what_is_shared_needs_a_word(store: StateStore, call: Call) -> None:
    ada, bob = person("chat", "ada"), person("chat", "bob")
    run(put_head(store, KEY, when=days_ago(1)))
    run(put_head(store, "group", when=days_ago(1), people=(ada, bob)))
    run(put_head(store, "bob's", when=days_ago(1), people=(bob,)))
    code, out, _ = call("delete", "--identity", "chat", "ada", "--yes")
    assert code == 3
    assert "Others took part in these too; --shared deletes them as well:" in out
    assert run(get_head(store, KEY)).deleted is not None
    assert run(get_head(store, "group")).deleted is None
    code, out, _ = call("delete", "--identity", "chat", "ada", "--yes", "--shared")
    assert code == 0 and run(get_head(store, "group")).deleted is not None
    code, out, _ = call("delete", "--identity", "chat", "ada", "--yes")
    assert (code, out) == (0, "Nothing to delete.\n")
    assert run(get_head(store, "bob's")).deleted is None


def test_what_cannot_be_read_is_named_and_the_deletion_is_not_called_complete(store: StateStore, call: Call) -> None:
    run(put_head(store, KEY))
    run(store.put(head_of("k"), b"damaged"))
    code, _, err = call("delete", "--identity", "chat", "ada", "--yes")
    assert code == 3 and head_of("k") in err
    assert run(get_head(store, KEY)).deleted is not None


def test_a_prune_needs_to_know_how_long_things_are_kept(store: StateStore, call: Call) -> None:
    run(put_head(store, "old", when=days_ago(31)))
    run(put_head(store, "young", when=days_ago(29)))
    code, out, err = call("prune")
    assert (code, out) == (1, "") and err.startswith(
        "af-hosting: How long are conversations kept here? Say --retention"
    )
    assert call("prune", "--retention", "never")[1].startswith("0 idle conversations and 0 documents removed;")
    code, out, err = call("prune", "--retention", "30d", "--dry-run")
    assert (code, out) == (0, "1 idle conversation and 0 documents would be removed; 2 documents seen.\n")
    assert run(get_head(store, "old")).deleted is None
    code, out, err = call("prune", "--retention", "30d")
    assert (code, out) == (0, "1 idle conversation and 0 documents removed; 2 documents seen.\n")
    assert err.splitlines()[-1] == "2 documents seen, 1 idle conversation and 0 documents removed"
    assert run(get_head(store, "old")).deleted is not None and run(get_head(store, "young")).deleted is None
    assert call("prune", "--retention", "12h", "--quiet")[1:] == (
        "1 idle conversation and 0 documents removed; 2 documents seen.\n",
        "",
    )


def test_a_prune_says_what_it_left(store: StateStore, call: Call) -> None:
    run(put_head(store, "undated"))
    run(put_head(store, "leased", when=days_ago(31), lease=LEASE))
    run(store.put(head_of("k"), b"damaged"))
    code, out, err = call("prune", "--retention", "30d", "--settle", "1", "--quiet")
    assert code == 0 and "1 conversation of an earlier release count as last used now." in out
    assert "1 conversation may be in use: left to another prune." in out
    assert err == f"af-hosting: {head_of('k')} cannot be read and was kept, with all that belongs to it.\n"


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with hosts, in the current directory."""
    (tmp_path / "retaining_hosts.py").write_text(HOST)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "retaining_hosts", raising=False)
    return "retaining_hosts"


def test_a_host_knows_its_place_and_how_long_things_are_kept(
    store: StateStore, hosts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(put_head(store, "old", when=days_ago(3)))
    run(put_head(store, "young", when=days_ago(1)))
    assert main(["state", "prune", "--host", f"{hosts}:limited", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("1 idle conversation and 0 documents removed;")
    assert run(get_head(store, "old")).deleted is not None


@pytest.mark.parametrize("action", [["list"], ["show", "k"], ["delete", "k", "--yes"], ["prune", "--retention", "1d"]])
def test_what_is_in_memory_is_out_of_reach(hosts: str, action: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for place in (["--host", f"{hosts}:forgetful"], ["--state-dir", "memory://"]):
        assert main(["state", *action, *place]) == 1
        told = capsys.readouterr()
        assert told.out == "" and "Conversations are in memory here" in told.err


@pytest.mark.parametrize("action", [["list"], ["show", "k"], ["delete", "k", "--yes"], ["prune", "--retention", "1d"]])
def test_a_place_that_is_not_there_is_not_made(call: Call, place: str, action: list[str]) -> None:
    code, out, err = call(*action)
    assert (code, out) == (1, "") and err.startswith("af-hosting: There is no state in directory ")
    assert len(err.splitlines()) == 1 and not Path(place).exists()


def test_a_place_without_checkpoints_is_one(store: StateStore, place: str, call: Call) -> None:
    run(put_head(store, KEY))
    assert call("list")[0] == 0
    assert not (Path(place) / "checkpoints").exists()


def test_checkpoints_of_a_single_place_are_pruned_too(store: StateStore, place: str, call: Call) -> None:
    checkpoints = DirectoryStore(Path(place) / "checkpoints" / "v1")
    run(put_head(store, KEY, when=days_ago(1)))
    run(checkpoints.put(f"k/{conversation_path(KEY)}/c/0/000000000002-x", b"{}"))
    assert call("prune", "--retention", "30d", "--quiet")[1].startswith("0 idle conversations and 1 document removed")


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "--state-dir", "x", "--host", "m:h"],
        ["show", "--state-dir", "x"],
        ["show", "k", "--hash", "abcd", "--state-dir", "x"],
        ["delete", "--state-dir", "x"],
        ["delete", "k", "--identity", "a", "b", "--state-dir", "x"],
        ["delete", "--identity", "a", "--state-dir", "x"],
        ["prune", "--state-dir", "x", "--retention", "0d"],
        ["prune", "--state-dir", "x", "--retention", "soon"],
        ["prune", "--state-dir", "x", "--retention", "30"],
        ["prune", "--state-dir", "x", "--batch", "0"],
        ["prune", "--state-dir", "x", "--settle", "-1"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_arguments_get_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["state", *arguments])
    assert ended.value.code == 2 and "usage: af-hosting state" in capsys.readouterr().err


def test_an_unreadable_place_is_one_line(place: str, call: Call) -> None:
    Path(place, "sessions").mkdir(parents=True)
    Path(place, "sessions", "v1").write_text("a file")
    code, out, err = call("list")
    assert (code, out) == (1, "") and len(err.splitlines()) == 1 and "Traceback" not in err


@pytest.mark.parametrize("how", [["delete", KEY, "--yes"], ["prune", "--retention", "30d"]], ids=["delete", "prune"])
def test_no_old_version_of_what_is_gone_is_left_on_the_disk(
    store: StateStore, place: str, call: Call, how: list[str]
) -> None:
    async def talk() -> None:
        async with hosted(store, Diary()) as context:
            for number in range(3):
                await say(context, KEY, f"a secret {number}")

    def left() -> list[Path]:
        return [path for path in Path(place).rglob("*") if path.is_file() and b"a secret" in path.read_bytes()]

    run(talk())
    run(change_head(store, KEY, when=days_ago(31)))
    assert left() != []
    assert call(*how)[0] == 0
    assert left() == []


def test_a_prune_that_is_interrupted_says_that_another_does_the_rest(store: StateStore, place: str) -> None:
    run(store.put(f"k/{conversation_path(KEY)}/b/000000000001-x", b"{}"))  # It waits, to look at this again.
    command = [sys.executable, "-m", "agent_framework_hosting.cli", "state", "prune", "--state-dir", place]
    with subprocess.Popen([*command, "--retention", "30d"], stderr=subprocess.PIPE, text=True) as pruning:
        assert pruning.stderr is not None
        assert "1 document seen" in pruning.stderr.readline()
        pruning.send_signal(signal.SIGINT)
        assert pruning.wait(30) == 130
        assert pruning.stderr.read() == "Interrupted. What was removed is removed; the next prune does the rest.\n"
    assert len(run(all_names(store, ""))) == 1
