"""What `state_dir` may be, and what becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_framework_hosting.errors import ConfigurationError, StateUnavailable
from agent_framework_hosting.state.locations import HostStatePaths, StateLocations, open_state, open_store
from agent_framework_hosting.state.store import UNCHANGED, StateStore, read
from tests.support.places import OBJECT_PLACES, make_place

NAME = "k/aa/key/head"


async def files_after_writing(store: StateStore, folder: Path) -> set[str]:
    await store.put(NAME, b"x")
    return places(folder)


def places(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix().split("/k/")[0] for path in folder.rglob("*") if path.is_file()}


async def in_memory(store: StateStore, again: StateStore) -> bool:
    """Whether a second store of the same settings knows nothing of the first."""
    await store.put(NAME, b"x")
    return await again.get(NAME) is None


@pytest.mark.parametrize("state_dir", [None, "memory://", "memory:///", {}, {"sessions": "memory://"}])
async def test_memory(state_dir: str | HostStatePaths | None) -> None:
    state = open_state(state_dir, memory_sessions=5)
    await state.probe(checkpoints=True)
    assert await in_memory(state.sessions, open_state(state_dir, memory_sessions=5).sessions)
    assert state.checkpoints is state.sessions
    assert (state.durable, state.checkpoints_durable) == (False, False)
    assert state.description == "memory (at most 5 conversations, gone when the process ends)"


async def test_memory_is_bounded() -> None:
    state = open_state(None, memory_sessions=2)
    for number in range(4):
        await state.sessions.put(f"d/channel/{number}", b"x")
    assert await state.sessions.list("d/") == ["d/channel/2", "d/channel/3"]


@pytest.mark.parametrize("kind", ["text", "path", "url", "local url"])
async def test_one_place_is_divided(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "a bot"
    quoted = str(folder).replace(" ", "%20")
    state_dir: str | os.PathLike[str] = {
        "text": str(folder),
        "path": folder,
        "url": f"file://{quoted}",
        "local url": f"file://localhost{quoted}",
    }[kind]
    state = open_state(state_dir, memory_sessions=5)
    assert not folder.exists()
    assert (state.durable, state.checkpoints_durable, state.single_instance) == (True, True, False)
    assert state.description == f"directory {folder}"
    await state.probe(checkpoints=False)
    assert [path.name for path in folder.iterdir()] == ["sessions"]
    await state.probe(checkpoints=True)
    await state.probe(checkpoints=True)
    assert await files_after_writing(state.sessions, folder) == {"sessions/v1"}
    assert await files_after_writing(state.checkpoints, folder) == {"sessions/v1", "checkpoints/v1"}
    found = await open_state(folder, memory_sessions=1).sessions.get(NAME)
    assert found is not None
    assert found is not UNCHANGED
    assert found[0] == b"x"


async def test_places_of_a_mapping_are_used_as_they_are(tmp_path: Path) -> None:
    state = open_state({"sessions": tmp_path / "s", "checkpoints": str(tmp_path / "c")}, memory_sessions=5)
    assert await files_after_writing(state.sessions, tmp_path) == {"s/v1"}
    assert await files_after_writing(state.checkpoints, tmp_path) == {"s/v1", "c/v1"}
    assert state.description == f"sessions in directory {tmp_path / 's'}, checkpoints in directory {tmp_path / 'c'}"


async def test_with_only_checkpoints_all_else_is_in_memory(tmp_path: Path) -> None:
    state = open_state({"checkpoints": tmp_path}, memory_sessions=5)
    await state.probe(checkpoints=True)
    assert (state.durable, state.checkpoints_durable) == (False, True)
    assert state.description.startswith("sessions in memory (")
    assert state.description.endswith(f", checkpoints in directory {tmp_path}")
    assert await files_after_writing(state.checkpoints, tmp_path) == {"v1"}


async def test_with_only_sessions_the_checkpoints_live_there_too(tmp_path: Path) -> None:
    state = open_state({"sessions": tmp_path}, memory_sessions=5)
    assert state.checkpoints is state.sessions
    assert state.checkpoints_durable
    assert state.description == f"directory {tmp_path}"


async def test_a_checkpoint_location_wins(tmp_path: Path) -> None:
    state_dir: HostStatePaths = {"sessions": tmp_path / "s", "checkpoints": tmp_path / "c"}
    state = open_state(state_dir, memory_sessions=5, checkpoint_location=tmp_path / "elsewhere")
    assert await files_after_writing(state.checkpoints, tmp_path) == {"elsewhere/v1"}
    state = open_state(None, memory_sessions=5, checkpoint_location=tmp_path / "elsewhere")
    assert (state.durable, state.checkpoints_durable) == (False, True)
    with pytest.raises(ConfigurationError, match="lost without a trace"):
        open_state(tmp_path, memory_sessions=5, checkpoint_location="memory://")


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'session'.*'checkpoints', 'sessions'"):
        open_state({"session": "/tmp/x", "checkpoints": "/tmp/y"}, memory_sessions=5)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            "https://account.blob.core.windows.net/container?sv=1&sig=SECRET",
            r"account.blob.core.windows.net/container with more to it.*AZURE_STORAGE_SAS_TOKEN",
        ),
        ("s3://SECRET@bucket/prefix", "s3://bucket/prefix with more to it"),
        ("s3://Bucket/prefix", "no general-purpose bucket is called 'Bucket'"),
        ("s3://express--use1-az4--x-s3/prefix", "no general-purpose bucket"),
        (Path("s3://bucket/prefix"), "a path that was a URL: give it as text"),
        ("s3://", "no general-purpose bucket is called ''"),
        ("az://a--b", "no container is called 'a--b'"),
        ("https://account.blob.core.windows.net", "no container is called ''"),
        ("https://my.account.blob.core.windows.net/container", "no storage account is called that"),
        ("s3://bucket/a//b", "a prefix is made of"),
        ("s3://bucket/a/../b", "a prefix is made of"),
        ("az://container/%C3%A4", "a prefix is made of"),
        ("s3://bucket/" + "long/" * 41, "at most 200"),
        ("gs://bucket/prefix", "no known kind of place.*s3://bucket/prefix"),
        ("abfss://SECRET@account.dfs.core.windows.net/x", "no known kind of place.*az://container/prefix"),
        ("redis://user:SECRET@host/0", "redis://host/0, which is no known kind"),
        ("https://example.org/x?key=SECRET", "no known kind"),
        ("memory://shared", "write memory:// alone"),
        ("file://server/share", "file:///absolute/path"),
        ("file:///a#b", "%23"),
        ("file:///a?b=SECRET", "single_instance=true"),
        ("file:///a?single_instance=maybe", "single_instance=true"),
        ("", "empty"),
        ("a\0b", "null character"),
        ("~nobody-has-this-name/bot", "starts with ~"),
    ],
)
@pytest.mark.parametrize(
    "setting", ["state_dir", "state_dir['sessions']", "state_dir['checkpoints']", "checkpoint_location"]
)
def test_what_is_no_place_says_what_to_do(place: str | Path, words: str, setting: str) -> None:
    settings: dict[str, Any] = {
        "state_dir": {"state_dir": place},
        "state_dir['sessions']": {"state_dir": {"sessions": place}},
        "state_dir['checkpoints']": {"state_dir": {"checkpoints": place}},
        "checkpoint_location": {"state_dir": None, "checkpoint_location": place},
    }
    with pytest.raises(ConfigurationError, match=words) as failure:
        open_state(memory_sessions=5, **settings[setting])
    assert str(failure.value).startswith(f"{setting} ")
    assert "SECRET" not in str(failure.value)


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_state("~/bot", memory_sessions=5).description == f"directory {tmp_path / 'bot'}"


async def test_a_relative_path_counts_from_where_the_host_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    state = open_state("bot", memory_sessions=5)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert await files_after_writing(state.sessions, tmp_path) == {"bot/sessions/v1"}


async def test_a_single_instance_is_asked_for_in_the_url(tmp_path: Path) -> None:
    state = open_state(f"file://{tmp_path}?single_instance=true", memory_sessions=5)
    assert state.single_instance
    assert state.description == f"directory {tmp_path} (single instance)"
    await state.probe(checkpoints=True)
    assert not open_state(f"file://{tmp_path}?single_instance=false", memory_sessions=5).single_instance


async def test_a_place_that_cannot_be_used_is_found_at_start_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    state: StateLocations = open_state(tmp_path / "file", memory_sessions=5)
    with pytest.raises(StateUnavailable, match=f"{tmp_path}/file.*ENOTDIR.*Name a directory"):
        await state.probe(checkpoints=False)


@pytest.mark.parametrize("kind", ["single", "mapping", "checkpoint_location"])
async def test_a_place_that_looks_like_a_missing_mount_is_warned_of(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "mount" / "bot"
    for there in (False, True):
        caplog.clear()
        state = open_state(
            {"single": place, "mapping": {"sessions": place}, "checkpoint_location": tmp_path / "state"}[kind],
            memory_sessions=1,
            checkpoint_location=place if kind == "checkpoint_location" else None,
        )
        await state.probe(checkpoints=True)
        warned = [record.getMessage() for record in caplog.records]
        assert len(warned) == (0 if there else 1)
        assert all(f"Neither {place} nor the directory above it" in words for words in warned)
    assert (tmp_path / "mount").is_dir()


@pytest.mark.parametrize(
    ("place", "description"),
    [
        ("s3://bucket/bots/one/", "S3 bucket s3://bucket/bots/one"),
        ("s3://bucket", "S3 bucket s3://bucket"),
        ("az://container/prefix", "blob container az://container/prefix"),
        (
            "https://account.blob.core.windows.net/container/a/b",
            "blob container https://account.blob.core.windows.net/container/a/b",
        ),
    ],
)
def test_object_stores_are_told_by_their_urls(place: str, description: str) -> None:
    state = open_state(place, memory_sessions=5)
    assert state.description == description
    assert (state.durable, state.checkpoints_durable, state.single_instance, state.roots) == (True, True, False, ())


@pytest.mark.parametrize("kind", OBJECT_PLACES)
async def test_an_object_place_is_divided_like_a_directory(kind: str, request: pytest.FixtureRequest) -> None:
    place = make_place(kind, request)
    state = open_state(place.state_dir, memory_sessions=5)
    await state.probe(checkpoints=True)
    await state.sessions.put(NAME, b"session")
    await state.checkpoints.put(NAME, b"checkpoint")
    for part, data in (("sessions", b"session"), ("checkpoints", b"checkpoint")):
        found = await read(open_store(place.below(part)), NAME)
        assert found is not None
        assert found[0] == data
    assert await place.store().list("") == []
    mapped = open_state({"sessions": place.below("sessions")}, memory_sessions=5)
    assert await mapped.sessions.list("") == [NAME]
    assert mapped.checkpoints is mapped.sessions


async def test_a_store_is_opened_at_just_its_place(tmp_path: Path) -> None:
    assert await files_after_writing(open_store(tmp_path / "state"), tmp_path) == {"state/v1"}
    assert await in_memory(open_store("memory://"), open_store("memory://"))
    with pytest.raises(ConfigurationError, match="The place of the store is redis://"):
        open_store("redis://host")


def test_an_object_store_without_its_extra_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['obstore'] = None\n"
        "from agent_framework_hosting.state.locations import open_state\n"
        "open_state('s3://bucket/prefix', memory_sessions=1)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].endswith(
        "ConfigurationError: s3://bucket/prefix/sessions is an object store, which needs an extra: "
        "pip install 'agent-framework-hosting[blob]'"
    )


def test_nothing_imports_the_client_before_it_is_used() -> None:
    code = (
        "import sys\n"
        "from agent_framework_hosting.state.locations import open_state\n"
        "open_state('s3://bucket/prefix', memory_sessions=1)\n"
        "print('obstore' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "False\n"
