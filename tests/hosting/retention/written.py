"""States as hosts leave them behind, written by hand: what must go and what must stay is known of each document."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.archives import encode_archive
from agent_framework_hosting.state.documents import all_names, find_head
from agent_framework_hosting.state.head import FORMAT, Checkpoint, Head, Lease, Ran, Snapshot, encode_head, random_id
from agent_framework_hosting.state.retention import Pruned, Pruner
from agent_framework_hosting.state.store import StateStore

DAY = 86_400.0
NOW = 1_000 * DAY
RETENTION = timedelta(days=30)
OLD = NOW - 31 * DAY
YOUNG = NOW - 29 * DAY
LEASE = Lease("t" * 32, 9.0)
CONTENT = "what was said"


def head_of(key: str) -> str:
    return f"k/{conversation_path(key)}/head"


def new_head(of: str, **fields: Any) -> Head:
    return Head(**{"format": FORMAT, "key": of, "rev": random_id(), "epoch": 3, "session": of, **fields})


async def put_head(store: StateStore, of: str, **fields: Any) -> Head:
    head = new_head(of, **fields)
    await store.put(head_of(of), encode_head(head))
    return head


async def get_head(store: StateStore, key: str) -> Head:
    found = await find_head(store, conversation_path(key))
    assert found is not None
    return found[0]


async def change_head(store: StateStore, key: str, **changes: Any) -> Head:
    """Write a head as it would be a while later."""
    found = await find_head(store, conversation_path(key))
    assert found is not None
    head = found[0].next(**changes)
    await store.put(head_of(key), encode_head(head), if_version=found[1])
    return head


def archive(key: str, when: float) -> bytes:
    return encode_archive(key, when, bare_session(key))


def bare_session(key: str) -> bytes:
    return json.dumps({"format": FORMAT, "key": key, "session": {"said": CONTENT}, "pending": []}).encode()


def document(when: float | None = None, **fields: Any) -> bytes:
    return json.dumps({"format": FORMAT, **fields} | ({} if when is None else {"when": when})).encode()


@dataclass
class Written:
    """What is in a store: names that must stay, and names that a prune must remove.

    `checkpoints` is where those are, if that is another store.
    """

    store: StateStore
    checkpoints: StateStore
    stays: set[str] = field(default_factory=set[str])
    goes: set[str] = field(default_factory=set[str])

    async def put(self, key: str, *names: str, goes: bool, data: bytes = b"{}") -> None:
        """Write documents of a conversation, by the last part of their names."""
        for name in names:
            store = self.checkpoints if name.startswith("c/") else self.store
            await store.put(f"k/{conversation_path(key)}/{name}", data)
            (self.goes if goes else self.stays).add(f"k/{conversation_path(key)}/{name}")

    async def put_at(self, name: str, *, goes: bool, data: bytes) -> None:
        await self.store.put(name, data)
        (self.goes if goes else self.stays).add(name)

    async def head(self, of: str, **fields: Any) -> None:
        await put_head(self.store, of, **fields)
        self.stays.add(head_of(of))  # A head is never removed: it becomes a tombstone.

    async def names(self) -> set[str]:
        names = set(await all_names(self.store, ""))
        return names if self.checkpoints is self.store else names | set(await all_names(self.checkpoints, ""))


GONE = ["idle", "dead lease", "orphan", "tombstone", "killed after its tombstone"]
KEPT = ["used", "waiting", "replying", "running", "undated", "young", "begun anew"]


async def write_everything(store: StateStore, checkpoints: StateStore | None = None) -> Written:
    """Write one conversation of every kind, and channel documents of every age."""
    w = Written(store, checkpoints or store)

    def snapshot(key: str, name: str) -> Snapshot:
        return Snapshot(size=2, name=f"k/{conversation_path(key)}/{name}", sha="0" * 64)

    def checkpoint(key: str, name: str) -> Checkpoint:
        return Checkpoint(f"k/{conversation_path(key)}/{name}", 2)

    key = "idle"
    await w.put(key, "b/000000000002-x", "b/000000000003-x", "c/0/000000000003-x", "c/0/000000000001-x", goes=True)
    await w.put(key, "s/0/000000000001", goes=True, data=archive(key, YOUNG))
    await w.head(
        key, when=OLD, snapshot=snapshot(key, "b/000000000003-x"), checkpoint=checkpoint(key, "c/0/000000000003-x")
    )

    key = "used"
    await w.put(key, "b/000000000002-x", "c/0/000000000003-other", "b/000000000003-other", goes=True)
    await w.put(key, "b/000000000003-x", "c/0/000000000001-x", "later/000000000001", goes=False)
    await w.put(key, "s/0/000000000001", goes=True, data=archive(key, OLD))
    await w.put(key, "s/1/000000000002", goes=False, data=archive(key, YOUNG))
    await w.put(key, "s/1/000000000003", goes=False, data=bare_session(key))
    await w.head(
        key, when=YOUNG, snapshot=snapshot(key, "b/000000000003-x"), checkpoint=checkpoint(key, "c/0/000000000001-x")
    )

    key = "waiting"
    await w.put(key, "b/000000000003-x", goes=False)
    await w.put_at(f"in/{conversation_path(key)}/0001.u1", goes=False, data=document(OLD, key=key))
    await w.head(key, when=OLD, snapshot=snapshot(key, "b/000000000003-x"))

    key = "replying"
    await w.put(key, "b/000000000002-result", goes=False)
    await w.head(key, when=OLD, ran=Ran("u1", (snapshot(key, "b/000000000002-result"),)))

    key = "running"
    await w.put(key, "b/000000000002-x", goes=True)
    await w.put(key, "b/000000000003-staged", "c/0/000000000003-staged", "c/0/000000000004-later", goes=False)
    await w.head(key, when=YOUNG, lease=LEASE)

    key = "dead lease"
    await w.put(key, "b/000000000003-staged", goes=True)
    await w.head(key, when=OLD, lease=LEASE)

    key = "undated"
    await w.put(key, "b/000000000002-x", goes=True)
    await w.put(key, "b/000000000003-x", goes=False)
    await w.head(key, snapshot=snapshot(key, "b/000000000003-x"))

    await w.put("orphan", "b/000000000001-x", "c/0/000000000001-x", goes=True)
    w.stays.add(head_of("orphan"))

    key = "tombstone"
    await w.head(key, key="", deleted=OLD, session="")

    key = "killed after its tombstone"
    await w.put(key, "b/000000000003-x", "c/0/000000000003-x", goes=True)
    await w.put(key, "s/0/000000000002", goes=True, data=archive(key, YOUNG))
    await w.head(key, key="", deleted=YOUNG, session="")

    key = "young"
    await w.head(key, when=YOUNG)
    await w.put_at(f"dead/{conversation_path(key)}/0001.u1", goes=True, data=document(OLD, key=key))
    await w.put_at(f"dead/{conversation_path(key)}/0001.u2", goes=False, data=document(YOUNG, key=key))
    await w.put_at(f"dead/{conversation_path(key)}/0001.u3", goes=False, data=b"damaged")

    key = "begun anew"  # a deletion was killed, and then somebody came
    await w.put(key, "s/0/000000000001", goes=True, data=archive(key, YOUNG))
    await w.head(key, when=YOUNG, epoch=5, garbage=(f"k/{conversation_path(key)}/s/0/000000000001",))

    await w.put_at("d/invocations/aa/old", goes=True, data=document(OLD))
    await w.put_at("d/invocations/aa/young", goes=False, data=document(YOUNG))
    await w.put_at("d/invocations/aa/undated", goes=False, data=document())
    await w.put_at("d/other/bytes", goes=False, data=b"\xff\x00")
    await w.put_at("another/thing", goes=False, data=document(OLD))
    return w


async def no_sleep(seconds: float) -> None:
    return None


def pruner(
    *stores: StateStore, sleep: Callable[[float], Awaitable[None]] = no_sleep, now: float = NOW, **how: Any
) -> Pruner:
    return Pruner(stores, sleep=sleep, clock=lambda: now, **{"retention": RETENTION, **how})


async def prune(*stores: StateStore, **how: Any) -> Pruned:
    return await pruner(*stores, **how).run()
