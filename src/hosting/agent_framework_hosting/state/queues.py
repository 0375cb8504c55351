"""Lines up what may run one at a time inside one process: turns of a conversation, or of a workflow object."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial


class LocalQueues:
    """A first-come queue for each name that is in use; unused ones take no memory. Use it on one event loop."""

    def __init__(self) -> None:
        # Those who wait, by the names that somebody holds.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def __contains__(self, name: object) -> bool:
        """Whether somebody holds it."""
        return name in self._waiting

    async def enter(self, name: str, timeout: float) -> Callable[[], None]:
        """Wait for one's turn and give the function that ends it.

        Raises:
            TimeoutError: It took longer than `timeout` seconds.
        """
        waiting = self._waiting.get(name)
        if waiting is None:
            self._waiting[name] = deque()
        else:
            turn = asyncio.get_running_loop().create_future()
            waiting.append(turn)
            try:
                async with asyncio.timeout(timeout):
                    await turn
            except BaseException:
                if turn.done() and not turn.cancelled():  # It came all the same: the next one's now.
                    self._leave(name)
                elif turn in waiting:
                    waiting.remove(turn)
                raise
        return partial(self._leave, name)

    def _leave(self, name: str) -> None:
        waiting = self._waiting[name]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():  # Who is just giving up is still in line.
                turn.set_result(None)
                return
        del self._waiting[name]
