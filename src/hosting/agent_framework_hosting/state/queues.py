"""Lines up what may run one at a time inside one process: turns of a conversation, or of a workflow object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LocalQueues:
    """One first-come lock for each name that is in use; unused ones take no memory."""

    def __init__(self) -> None:
        self._locks: dict[str, _Counted] = {}

    def __contains__(self, name: object) -> bool:
        """Whether somebody holds it or waits for it."""
        return name in self._locks

    async def enter(self, name: str, timeout: float) -> Callable[[], None]:
        """Wait for one's turn and give the function that ends it.

        Raises:
            TimeoutError: It took longer than `timeout` seconds.
        """
        counted = self._locks.get(name)
        if counted is None:
            counted = self._locks[name] = _Counted()
        counted.users += 1
        try:
            if counted.users > 1:  # Also when the lock is free at the moment: whoever waited first gets it.
                async with asyncio.timeout(timeout):
                    await counted.lock.acquire()
            else:
                await counted.lock.acquire()
        except BaseException:
            self._leave(name, counted)
            raise

        def leave() -> None:
            counted.lock.release()
            self._leave(name, counted)

        return leave

    def _leave(self, name: str, counted: _Counted) -> None:
        counted.users -= 1
        if counted.users == 0:
            del self._locks[name]


class _Counted:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
