"""Directories: many processes at once, killed writers, and file systems that refuse."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_framework_hosting.errors import ConfigurationError, StateUnavailable
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.disk import Disk
from agent_framework_hosting.state.settle import Overtaken, settled_put
from agent_framework_hosting.state.store import ABSENT, UNCHANGED, Unknown, Version

from . import writers

HEAD = "k/aa/key/head"


async def read(store: DirectoryStore, name: str = HEAD) -> tuple[bytes, Version]:
    found = await store.get(name)
    assert found is not None
    assert found is not UNCHANGED
    return found


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def failing(code: int) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


def script(*args: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "ignore", "-m", writers.__name__, *map(str, args)])


@contextmanager
def running(*args: object) -> Iterator[subprocess.Popen[bytes]]:
    process = script(*args)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def ended(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait, 60)


class TestManyProcesses:
    async def test_no_increment_is_lost(self, tmp_path: Path) -> None:
        processes = [script("increment", tmp_path, writer, 25) for writer in range(8)]
        assert [await ended(process) for process in processes] == [0] * 8
        lines = (await read(DirectoryStore(tmp_path), writers.LINES))[0].decode().split()
        assert sorted(lines) == sorted(f"{writer}.{number}" for writer in range(8) for number in range(25))

    async def test_a_writer_killed_at_any_moment_leaves_whole_documents(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path)
        for round_ in range(4):
            with running("write_on", tmp_path) as writer:
                before = (await store.get(writers.CHECKED)) if round_ else None
                while True:  # bounded by the test's time-out
                    found = await store.get(writers.CHECKED)
                    assert found is not UNCHANGED
                    if found is None or found == before:
                        continue
                    assert writers.is_whole(found[0])
                    if writers.number_of(found[0]) >= 5 + round_:
                        break
                writer.kill()
                writer.wait()
            assert writers.is_whole((await read(store, writers.CHECKED))[0])

    async def test_a_writer_killed_at_any_system_call_leaves_the_old_or_the_new(self, tmp_path: Path) -> None:
        with running("die_everywhere", tmp_path) as process:
            assert await ended(process) == 0
        store = DirectoryStore(tmp_path)
        outcomes: dict[str, list[bytes | None]] = {"old": [], "new": []}
        for made, seen in outcomes.items():
            steps = sorted((path.name for path in (tmp_path / "k" / made).iterdir()), key=int)
            assert len(steps) > 6
            for step in steps:
                name = f"k/{made}/{step}/head"
                found = await store.get(name)
                assert found is not UNCHANGED
                seen.append(None if found is None else found[0])
                version = await store.put(name, b"next", if_version=ABSENT if found is None else found[1])
                assert await read(store, name) == (b"next", version)
        old, new = writers.checked(0), writers.checked(1)
        assert set(outcomes["old"]) == {old, new}
        assert set(outcomes["new"]) == {None, new}
        for seen in outcomes.values():  # once it is written, it stays written
            assert new not in seen[: seen.index(new)]
            assert set(seen[seen.index(new) :]) == {new}

    async def test_a_fork_can_use_the_store(self, tmp_path: Path) -> None:
        with running("use_in_a_fork", tmp_path) as process:
            assert await ended(process) == 0
        assert await DirectoryStore(tmp_path).list("") == ["child/1", "parent/1", "parent/2"]


class TestHousekeeping:
    async def test_making_a_store_touches_nothing(self, tmp_path: Path) -> None:
        DirectoryStore(tmp_path / "deep" / "down")
        assert entries(tmp_path) == []

    async def test_probing_leaves_an_empty_directory(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path / "deep" / "down")
        await store.probe()
        await store.probe()
        assert entries(tmp_path / "deep" / "down") == []

    async def test_only_a_few_old_versions_stay(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path)
        for number in range(20):
            await store.put(HEAD, b"%d" % number)
        assert 2 <= len(files(tmp_path)) <= 5

    async def test_what_killed_writers_left_goes_after_an_hour(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path)
        killed, unharmed = tmp_path / "killed", tmp_path / "unharmed"
        await store.put("killed", b"1")
        await store.put("unharmed", b"1")
        before = set(files(killed))
        forgetful = DirectoryStore(tmp_path, disk=Disk(write=failing(errno.EIO), unlink=failing(errno.EIO)))
        with pytest.raises(StateUnavailable):
            await forgetful.put("killed", b"2")
        [left] = set(files(killed)) - before
        for data in (b"2", b"3"):
            await store.put("killed", data)
            await store.put("unharmed", data)
        assert left in files(killed)
        os.utime(left, (0, 0))
        await store.put("killed", b"4")
        await store.put("unharmed", b"4")
        assert len(files(killed)) == len(files(unharmed))
        assert (await read(store, "killed"))[0] == b"4"

    async def test_what_killed_probes_left_goes_after_an_hour(self, tmp_path: Path) -> None:
        forgetful = DirectoryStore(tmp_path, disk=Disk(unlink=failing(errno.EIO)))
        await forgetful.probe()
        [left] = entries(tmp_path)
        await DirectoryStore(tmp_path).probe()
        assert entries(tmp_path) == [left]
        os.utime(left, (0, 0))
        await DirectoryStore(tmp_path).probe()
        assert entries(tmp_path) == []

    async def test_deleting_leaves_no_folders_for_a_sweep_to_walk_through(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path)
        names = [f"in/aa/{group}/{order}" for group in range(3) for order in range(3)]
        for name in names:
            await store.put(name, b"x")
        for name in names:
            await store.delete(name)
        assert entries(tmp_path) == []

    async def test_writing_beside_a_delete_that_removes_folders(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path)

        async def come_and_go(writer: int) -> None:
            for number in range(10):
                name = f"in/aa/key/{writer}.{number}"
                await store.put(name, b"x", if_version=ABSENT)
                assert (await read(store, name))[0] == b"x"
                await store.delete(name)

        await asyncio.gather(*(come_and_go(writer) for writer in range(6)))
        assert await store.list("in/") == []

    async def test_reading_while_old_versions_are_removed(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path)
        await store.put(HEAD, writers.checked(0))

        async def write() -> None:
            for number in range(1, 60):
                await store.put(HEAD, writers.checked(number))

        writing = asyncio.ensure_future(write())
        seen = 0
        while not writing.done():
            data, _ = await read(store)
            assert writers.is_whole(data)
            assert writers.number_of(data) >= seen
            seen = writers.number_of(data)
        await writing

    async def test_files_of_others_are_left_alone(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path)
        for number in range(5):
            await store.put(HEAD, b"%d" % number)
            for other in (".DS_Store", "v", "v0", "vx", "notes"):
                (tmp_path / HEAD / other).write_text("x")
        (tmp_path / "k" / "lost+found").mkdir()
        assert (await read(store))[0] == b"4"
        assert await store.list("") == [HEAD]

    async def test_documents_are_private(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path / "state")
        await store.put(HEAD, b"x")
        assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").rglob("*")} == {0}


class TestRaces:
    @asynccontextmanager
    async def frozen_before_commit(self, tmp_path: Path, condition: Any) -> AsyncIterator[asyncio.Future[Version]]:
        """A writer that is stopped right before its commit, and goes on after the body."""
        reached, go_on = threading.Event(), threading.Event()

        def commit(*args: Any, **kwargs: Any) -> None:
            if not reached.is_set() and kwargs:
                reached.set()
                assert go_on.wait(30)
            os.link(*args, **kwargs)

        store = DirectoryStore(tmp_path, timeout=60, disk=Disk(commit=commit))
        reached.set()
        await store.probe()
        reached.clear()
        writing = asyncio.ensure_future(settled_put(store, HEAD, b"frozen", if_version=condition))
        assert await asyncio.to_thread(reached.wait, 30)
        yield writing
        go_on.set()

    @pytest.mark.parametrize("others", [1, 2, 3, 4, 12])
    async def test_a_writer_that_was_frozen_overwrites_nothing(self, tmp_path: Path, others: int) -> None:
        store = DirectoryStore(tmp_path)
        version: Version = await store.put(HEAD, b"start")
        async with self.frozen_before_commit(tmp_path, version) as writing:
            for number in range(others):
                version = await store.put(HEAD, b"%d" % number, if_version=version)
        with pytest.raises((Overtaken, Exception), match="read it again"):
            await writing
        assert await read(store) == (b"%d" % (others - 1), version)
        version = await store.put(HEAD, b"next", if_version=version)
        assert await read(store) == (b"next", version)

    @pytest.mark.parametrize("others", [1, 12])
    async def test_a_creator_that_was_frozen_overwrites_nothing(self, tmp_path: Path, others: int) -> None:
        store = DirectoryStore(tmp_path)
        await store.probe()
        async with self.frozen_before_commit(tmp_path, ABSENT) as writing:
            for number in range(others):
                await store.put(HEAD, b"%d" % number)
        with pytest.raises((Overtaken, Exception), match="read it again"):
            await writing
        assert (await read(store))[0] == b"%d" % (others - 1)

    @pytest.mark.parametrize("others", [1, 2, 3, 4, 12])
    async def test_a_writer_without_expectations_that_was_frozen_still_writes(
        self, tmp_path: Path, others: int
    ) -> None:
        store = DirectoryStore(tmp_path)
        await store.put(HEAD, b"start")
        async with self.frozen_before_commit(tmp_path, None) as writing:
            for number in range(others):
                await store.put(HEAD, b"%d" % number)
        version = await writing
        assert await read(store) == (b"frozen", version)

    @pytest.mark.parametrize("others", [1, 2])
    async def test_a_win_is_a_win_although_others_have_gone_on_since(self, tmp_path: Path, others: int) -> None:
        store = DirectoryStore(tmp_path)
        start = await store.put(HEAD, b"start")

        def commit(*args: Any, **kwargs: Any) -> None:
            os.link(*args, **kwargs)
            if args[1] == "v2":
                for _ in range(others):
                    asyncio.run(store.put(HEAD, b"on top"))  # type: ignore[arg-type]

        writer = DirectoryStore(tmp_path, disk=Disk(commit=commit))
        version = await writer.put(HEAD, b"ours", if_version=start)
        assert version not in (start, (await read(store))[1])
        assert (await read(store))[0] == b"on top"

    async def test_a_repeated_link_request_meets_its_own_link(self, tmp_path: Path) -> None:
        def commit(*args: Any, **kwargs: Any) -> None:
            os.link(*args, **kwargs)
            raise FileExistsError(errno.EEXIST, "as NFS says when an answer was lost")

        await DirectoryStore(tmp_path).put(HEAD, b"old")
        store = DirectoryStore(tmp_path)
        await store.probe()
        _, version = await read(store)
        store = DirectoryStore(tmp_path, disk=Disk(commit=once_probed(commit)))
        version = await store.put(HEAD, b"new", if_version=version)
        assert await read(store) == (b"new", version)


def once_probed(commit: Callable[..., None]) -> Callable[..., None]:
    """Let the two commits of a probe pass."""
    calls = iter([os.link, os.link])
    return lambda *args, **kwargs: next(calls, commit)(*args, **kwargs)


class TestFileSystems:
    @pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
    async def test_one_without_hard_links_is_refused(self, tmp_path: Path, code: int) -> None:
        store = DirectoryStore(tmp_path, disk=Disk(commit=failing(code)))
        with pytest.raises(ConfigurationError, match=r"hard links.*NFS.*file://.*\?single_instance=true"):
            await store.probe()
        with pytest.raises(ConfigurationError):
            await store.put(HEAD, b"x")
        assert entries(tmp_path) == []
        single = DirectoryStore(tmp_path, single_instance=True)
        await single.probe()
        version = await single.put(HEAD, b"x", if_version=ABSENT)
        assert await read(single) == (b"x", version)

    async def test_one_that_lets_two_writers_have_one_name_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot keep two writers apart"):
            await DirectoryStore(tmp_path, disk=Disk(commit=os.replace)).probe()

    async def test_a_full_disk_keeps_what_was_there(self, tmp_path: Path) -> None:
        written = 0

        def write(fd: int, data: memoryview) -> int:
            nonlocal written
            if written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = os.write(fd, data[:100])
            return written

        store = DirectoryStore(tmp_path)
        version = await store.put(HEAD, b"old")
        before = files(tmp_path)
        full = DirectoryStore(tmp_path, disk=Disk(write=write))
        with pytest.raises(StateUnavailable, match=rf"{tmp_path}.*ENOSPC.*Free some space") as failure:
            await full.put(HEAD, b"new" * 100, if_version=version)
        assert not isinstance(failure.value, Unknown)
        assert files(tmp_path) == before
        assert await read(full) == (b"old", version)

    async def test_short_writes_are_completed(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path, disk=Disk(write=lambda fd, data: os.write(fd, data[:1000])))
        await store.put(HEAD, writers.checked(1))
        assert (await read(store))[0] == writers.checked(1)

    @pytest.mark.parametrize("call", ["open", "mkdir", "fsync"])
    @pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EMFILE])
    async def test_one_that_cannot_be_written_says_so(self, tmp_path: Path, call: str, code: int) -> None:
        disk: dict[str, Any] = {call: failing(code)}
        store = DirectoryStore(tmp_path / "state", disk=Disk(**disk))
        for _ in range(2):
            with pytest.raises(StateUnavailable, match=rf"{tmp_path}/state.*{errno.errorcode[code]}") as failure:
                await store.put(HEAD, b"x")
            assert not isinstance(failure.value, Unknown)

    @pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
    async def test_a_commit_that_is_refused_certainly_did_not_happen(self, tmp_path: Path, code: int) -> None:
        store = DirectoryStore(tmp_path, disk=Disk(commit=once_probed(failing(code))))
        with pytest.raises(StateUnavailable) as failure:
            await store.put(HEAD, b"x")
        assert not isinstance(failure.value, Unknown)
        assert await store.get(HEAD) is None

    @pytest.mark.parametrize("applied", [True, False])
    async def test_a_commit_whose_answer_is_lost_is_settled(self, tmp_path: Path, applied: bool) -> None:
        broken = True

        def commit(*args: Any, **kwargs: Any) -> None:
            nonlocal broken
            if applied or not broken:
                os.link(*args, **kwargs)
            if broken:
                broken = False
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        store = DirectoryStore(tmp_path, disk=Disk(commit=once_probed(commit)))
        with pytest.raises(Unknown):
            await store.put(HEAD, b"1")
        broken = True
        version = await settled_put(store, HEAD, b"2", if_version=(await read(store))[1] if applied else ABSENT)
        assert await read(store) == (b"2", version)

    async def test_one_that_cannot_sync_folders_is_accepted(self, tmp_path: Path) -> None:
        def fsync(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        store = DirectoryStore(tmp_path, disk=Disk(fsync=fsync))
        version = await store.put(HEAD, b"x")
        assert await read(store) == (b"x", version)

    async def test_a_folder_that_fails_to_sync_leaves_doubt(self, tmp_path: Path) -> None:
        def fsync(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        await DirectoryStore(tmp_path).put(HEAD, b"x")
        with pytest.raises(Unknown):
            await DirectoryStore(tmp_path, disk=Disk(fsync=fsync)).put(HEAD, b"x")

    async def test_one_that_went_away_does_not_look_empty(self, tmp_path: Path) -> None:
        store = DirectoryStore(tmp_path / "mounted")
        version = await store.put(HEAD, b"x")
        (tmp_path / "mounted").rename(tmp_path / "elsewhere")
        for attempt in (
            store.get(HEAD),
            store.get(HEAD, unless=version),
            store.put(HEAD, b"y"),
            store.put(HEAD, b"y", if_version=version),
            store.put(HEAD, b"y", if_version=ABSENT),
            store.delete(HEAD),
            store.list("k/"),
        ):
            with pytest.raises(StateUnavailable, match="is its file system mounted"):
                await attempt
        assert not (tmp_path / "mounted").exists()
        (tmp_path / "elsewhere").rename(tmp_path / "mounted")
        assert await read(store) == (b"x", version)


class TestTime:
    async def test_a_write_that_hangs_is_unknown_and_may_yet_arrive(self, tmp_path: Path) -> None:
        go_on = threading.Event()

        def fsync(fd: int) -> None:
            assert go_on.wait(30)
            os.fsync(fd)

        await DirectoryStore(tmp_path).put(HEAD, b"old")
        hung = DirectoryStore(tmp_path, timeout=0.2, disk=Disk(fsync=fsync))
        try:
            with pytest.raises(Unknown, match="did not answer within"):
                await hung.put(HEAD, b"new")
            assert (await read(hung))[0] == b"old"
        finally:
            go_on.set()
        while (await read(hung))[0] != b"new":  # bounded by the test's time-out
            pass

    async def test_what_has_not_begun_in_time_never_does(self, tmp_path: Path) -> None:
        go_on = threading.Event()

        def fsync(fd: int) -> None:
            assert go_on.wait(30)
            os.fsync(fd)

        quick = DirectoryStore(tmp_path, timeout=0.2)
        await quick.probe()
        hung = DirectoryStore(tmp_path, timeout=0.2, disk=Disk(fsync=fsync))
        try:
            writes = [hung.put(f"in/{number}", b"x") for number in range(40)]
            answers = await asyncio.gather(*writes, return_exceptions=True)
            unknown = {f"in/{number}" for number, answer in enumerate(answers) if isinstance(answer, Unknown)}
            assert len(unknown) < 40
            assert all(isinstance(answer, StateUnavailable) for answer in answers)
            with pytest.raises(StateUnavailable):
                await quick.get(HEAD)
        finally:
            go_on.set()
        patient = DirectoryStore(tmp_path)
        while set(await patient.list("in/")) != unknown:  # bounded by the test's time-out
            pass
