"""What a target's own code may not do to those around it."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect


class TargetFailed(RuntimeError):
    """The target ended in a way that would mean something else to the host or its server; the cause is chained."""


class Contained:
    """A context that keeps apart what the target does to its own run from what others do to it.

    `allowed` may pass all the same: what a hook of the operator's may answer with.

    Raises:
        TargetFailed: The target cancelled itself, or raised what would end the server or answer the caller.
        CancelledError: Somebody else cancelled the run, also where the target swallowed that.
    """

    __slots__ = ("_allowed", "_before", "_task")

    def __init__(self, *allowed: type[Exception]) -> None:
        self._allowed = allowed

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled the task since it came in."""
        return self._task is not None and self._task.cancelling() > self._before

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._before = 0 if self._task is None else self._task.cancelling()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        cancelled = self.cancelled
        if error is None and not cancelled:
            return
        match error:
            case None | StopAsyncIteration():
                if cancelled:
                    # The target swallowed it; whoever asked for it is gone all the same.
                    raise asyncio.CancelledError
            case asyncio.CancelledError():
                if self._task is not None and not cancelled:
                    # Of a task or scope of the target's own.
                    raise TargetFailed("The target cancelled its own run.") from error
            case _ if isinstance(error, self._allowed):
                return
            case SystemExit() | GeneratorExit() | HTTPException() | ClientDisconnect():
                # None of these may end the server, or answer the caller, in the name of the host.
                raise TargetFailed(f"The target raised {type(error).__name__}.") from error
            case BaseExceptionGroup() if not isinstance(error, Exception):
                raise TargetFailed("The target raised a group with more than exceptions in it.") from error
            case Exception() | KeyboardInterrupt():
                return
            case _:
                raise TargetFailed(f"The target raised {type(error).__name__}, which is no Exception.") from error
