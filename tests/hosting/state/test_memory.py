"""How many conversations the store in memory keeps."""

from __future__ import annotations

from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.memory import MemoryStore

PATHS = [conversation_path(key) for key in "abcdef"]


async def write(store: MemoryStore, path: str) -> None:
    await store.put(f"k/{path}/head", path.encode())


async def kept(store: MemoryStore) -> list[str]:
    return [path for path in PATHS if await store.list(f"k/{path}/")]


async def test_the_least_recently_used_conversation_goes_first() -> None:
    store = MemoryStore(max_groups=3)
    for path in PATHS[:3]:
        await write(store, path)
    await store.get(f"k/{PATHS[0]}/head")
    await write(store, PATHS[1])
    await write(store, PATHS[3])
    assert await kept(store) == [PATHS[0], PATHS[1], PATHS[3]]


async def test_a_conversation_goes_whole() -> None:
    store = MemoryStore(max_groups=1)
    await write(store, PATHS[0])
    await store.put(f"k/{PATHS[0]}/c/s/1", b"checkpoint")
    assert len(await store.list("k/")) == 2
    await write(store, PATHS[1])
    assert await store.list("k/") == [f"k/{PATHS[1]}/head"]
    assert await store.get(f"k/{PATHS[0]}/c/s/1") is None


async def test_other_names_have_no_bound() -> None:
    store = MemoryStore(max_groups=1)
    names = [*sorted(f"in/{path}/1" for path in PATHS), "k", "k/x"]
    for name in names:
        await store.put(name, b"x")
    await write(store, PATHS[0])
    assert await store.list("", limit=20) == [*names[:-1], f"k/{PATHS[0]}/head", "k/x"]


async def test_a_conversation_with_a_running_turn_stays() -> None:
    running = set(PATHS[:2])
    store = MemoryStore(max_groups=2, keep=running.__contains__)
    for path in PATHS[:4]:
        await write(store, path)
    assert await kept(store) == [PATHS[0], PATHS[1], PATHS[3]]
    running.clear()
    await write(store, PATHS[4])
    assert await kept(store) == [PATHS[1], PATHS[4]]


async def test_a_deleted_conversation_takes_no_place() -> None:
    store = MemoryStore(max_groups=2)
    for path in PATHS[:3]:
        await write(store, path)
        await store.delete(f"k/{PATHS[1]}/head")
    assert await kept(store) == [PATHS[0], PATHS[2]]
