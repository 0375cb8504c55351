"""One request through the app on a loop that stands still otherwise: an exchange whose failures are Lambda's."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent_framework_hosting.deadline import set_deadline
from agent_framework_hosting.exchange import Exchange

from .answers import TOO_LATE, answer_of
from .errors import NoResponse
from .events import Answer
from .stopping import Stuck

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from .budget import Budget
    from .events.http import Scope

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class Invocation(Exchange):
    """An exchange whose failures Lambda counts.

    An exception before the end of the response fails the invocation: nothing has reached the caller yet. One after it
    (a background task, or Starlette's own 500, which raises after it is sent) is logged, and the response stands.
    """

    __slots__ = ("_failure", "_late", "_scope", "_stuck")

    def __init__(self, scope: Scope, body: bytes) -> None:
        super().__init__(body)
        self._scope = scope
        self._failure: BaseException | None = None
        self._late = False
        self._stuck = False

    def run(self, app: ASGIApp, loop: asyncio.AbstractEventLoop, budget: Budget | None) -> None:
        """Run the app to its end, or to that of the budget; `answer` tells what became of it.

        Raises:
            Stuck: It does not end.
        """
        task = loop.create_task(self._run(app, loop, budget))
        ends: list[asyncio.TimerHandle] = []
        if budget is not None:
            ends.append(loop.call_at(budget.answer, self._cut, task))
            ends.append(loop.call_at(budget.stuck, self._give_up, loop))
        # As `run_until_complete`, less the round of the loop in which that learns of the end.
        while not task.done() and not self._stuck:
            loop.run_forever()
        for end in ends:
            end.cancel()
        if not task.done():
            raise Stuck

    def _cut(self, task: asyncio.Task[None]) -> None:
        self._late = True
        task.cancel()

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stuck = True
        loop.stop()

    async def _run(self, app: ASGIApp, loop: asyncio.AbstractEventLoop, budget: Budget | None) -> None:
        if budget is not None:
            set_deadline(budget.work)
        try:
            await app(self._scope, self.receive, self.send)
        except BaseException as error:
            self._failure = error  # `answer` raises it, outside of the loop.
        finally:
            if not self._stuck:  # Otherwise the loop turns for something else by now.
                loop.stop()

    def answer(self) -> Answer:
        """Give the complete response, or tell that the time is over.

        Raises:
            NoResponse: The app ended without one.
            Exception: What the app raised before it was complete.
        """
        failure = self._failure
        if isinstance(failure, (KeyboardInterrupt, SystemExit)):
            raise failure
        if not self.complete:
            if self._late:
                return answer_of(TOO_LATE)
            if failure is None:
                raise NoResponse(NoResponse.INCOMPLETE)
            if isinstance(failure, asyncio.CancelledError):
                # awslambdaric survives nothing but Exception.
                raise NoResponse(NoResponse.CANCELLED) from failure
            raise failure
        if failure is not None:
            method, path = self._scope["method"], self._scope["path"]
            logger.error("An error followed the response to %s %s.", method, path, exc_info=failure)
        return Answer(self.status, self.headers, self.body)
