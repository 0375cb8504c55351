"""What threads that are not Python's ask of a process: it ends quietly, and it is not forked in between."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.places import OBJECT_PLACES, make_place

PROCESSES = 40  # for two stores, done and cancelled
AT_ONCE = 5
LOADED = """
import asyncio, os, sys
from agent_framework_hosting.state.locations import open_store

async def load(store, number):
    for _ in range(5):
        await store.put(f"k/{os.getpid()}/{number}", b"x" * 2000)
        await store.get(f"k/{os.getpid()}/{number}")

async def main(place, leaving):
    store = open_store(place)
    tasks = [asyncio.ensure_future(load(store, number)) for number in range(8)]
    if leaving:
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
    await asyncio.wait(tasks)

asyncio.run(main(sys.argv[1], sys.argv[2] == "True"))
"""
FORKED = """
import asyncio, os, sys
from agent_framework_hosting.errors import StateUnavailable
from agent_framework_hosting.state.locations import open_store

store = open_store(sys.argv[1])

def write(name):
    try:
        asyncio.run(store.put(f"k/{name}", b"x"))
    except StateUnavailable as error:
        print(name, error, flush=True)
    else:
        print(name, "written", flush=True)

def child(name):
    if os.fork() == 0:
        write(name)
        os._exit(0)
    os.wait()

child("early")
write("parent")
child("late")
write("again")
"""


@pytest.mark.parametrize("kind", OBJECT_PLACES)
@pytest.mark.parametrize("leaving", [False, True], ids=["done", "cancelled"])
def test_loaded_processes_end_as_they_should(kind: str, leaving: bool, request: pytest.FixtureRequest) -> None:
    place = make_place(kind, request)
    ended: list[tuple[int, bytes]] = []
    for _ in range(PROCESSES // AT_ONCE // 4):
        running = [
            subprocess.Popen(
                [sys.executable, "-c", LOADED, place.state_dir, str(leaving)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for _ in range(AT_ONCE)
        ]
        for process in running:
            _, said = process.communicate(timeout=60)
            ended.append((process.returncode, said))
    assert ended == [(0, b"")] * (PROCESSES // 4)


@pytest.mark.parametrize("kind", OBJECT_PLACES)
def test_of_forked_processes_those_from_before_can_write(kind: str, request: pytest.FixtureRequest) -> None:
    place = make_place(kind, request)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, place.state_dir], capture_output=True, text=True, timeout=30
    )
    early, parent, late, again = ran.stdout.splitlines()
    assert (early, parent, again) == ("early written", "parent written", "again written")
    assert late.startswith("late This process was forked from one that had used an object store")
    assert ran.returncode == 0, ran.stderr
