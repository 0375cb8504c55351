"""How many documents the store in memory keeps."""

from __future__ import annotations

from agent_framework_hosting.state.memory import MemoryStore


async def test_the_least_recently_used_document_goes_first() -> None:
    store = MemoryStore(max_documents=3)
    for name in ("a", "b", "c"):
        await store.put(name, b"")
    await store.get("a")
    await store.put("b", b"again")
    await store.put("d", b"")
    assert await store.list("") == ["a", "b", "d"]


async def test_without_a_bound_nothing_goes() -> None:
    store = MemoryStore()
    for number in range(1000):
        await store.put(f"n{number}", b"")
    assert len(await store.list("", limit=2000)) == 1000
