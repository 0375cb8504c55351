"""Removing a conversation: its head becomes a tombstone, then all that an earlier head could name is purged.

Why nothing live is removed, however long whoever does this was stopped (SIGSTOP) in between:

- The head is never deleted, for its name is used again. It is replaced by compare-and-swap: if anybody wrote it since
  it was looked at, nothing happens. The tombstone has the next epoch and no lease: a turn that was running cannot save.
- A snapshot, a checkpoint or an archive has a name that is used once, and holds the epoch of the turn that made it. A
  head names only what it has taken over from the head before it and what its own turn made. A tombstone names nothing,
  and the epoch only grows: what has its epoch or a lower one will never be named again.
- The updates that go with the conversation are `done` in the tombstone. Whoever delivers one of them again meets that,
  so its document may go whenever it is there. Updates that came later are in no `done`, and stay.
- Archives are in `garbage` too, by which the next turn, or a prune, knows those that a killed deletion has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .bounded import each, kept_versions
from .documents import CONVERSATIONS, SET_ASIDE, WAITING, all_names, head_name, pages, part_of, uid_of
from .head import FORMAT, Head, encode_head, random_id
from .settle import settled_put
from .store import ABSENT, Lost, StateStore, Version

OPERATIONS = 16
"""How many operations of a store are under way at once, where nobody says."""

REPEATED_FOR = 86_400
"""For how many seconds a platform may deliver an update again."""

LISTED = 1000
"""How many archives a tombstone names."""


async def bury(
    store: StateStore,
    path: str,
    found: tuple[Head, Version] | None,
    *,
    now: float,
    epoch: int = 0,
    updates: Iterable[str] = (),
    archives: Sequence[str] = (),
) -> Head:
    """Put a tombstone in the place of a head that was read before, and give it; `updates` are uids that count as done.

    Where there was no head, `epoch` is the highest that was seen. A store that keeps old contents gets the tombstone so
    often that none of a live head is left.

    Raises:
        Lost: Somebody wrote the head meanwhile.
        StateUnavailable: What became of it is not known.
    """
    before = None if found is None else found[0]
    done = {} if before is None else {uid: when for uid, when in before.done.items() if now - when < REPEATED_FOR}
    done |= dict.fromkeys(updates, int(now))
    tombstone = Head(
        format=FORMAT,
        key="",
        rev=random_id(),
        epoch=max(epoch, 0 if before is None else before.epoch) + 1,
        session="",
        done=done,
        garbage=tuple(archives[:LISTED]),
        deleted=now,
    )
    version = ABSENT if found is None else found[1]
    version = await settled_put(store, head_name(path), encode_head(tombstone), if_version=version)
    for _ in range(kept_versions(store) - 1 if found is not None else 0):
        try:
            again = encode_head(tombstone.next())
            version = await settled_put(store, head_name(path), again, if_version=version)
        except Lost:  # The conversation was begun anew, and its writes do the same.
            break
    return tombstone


async def purge(stores: Sequence[StateStore], path: str, tombstone: Head, *, updates: bool = False) -> int:
    """Remove what a tombstone has made garbage, with `updates` those that count as done too; give how many it were.

    `stores` are where the sessions are and, if that is another one, the checkpoints.
    """
    removed = 0
    for store in stores:
        async for names in pages(store, f"{CONVERSATIONS}{path}/"):
            parts = (part for part in map(part_of, names) if part is not None)
            removed += await remove(store, [part.name for part in parts if part.epoch <= tombstone.epoch])
    if updates:
        for prefix in (WAITING, SET_ASIDE):
            names = await all_names(stores[0], f"{prefix}{path}/")
            removed += await remove(stores[0], [name for name in names if uid_of(name) in tombstone.done])
    return removed


async def remove(store: StateStore, names: Sequence[str]) -> int:
    await each(names, store.delete)
    return len(names)
