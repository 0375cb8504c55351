"""One invocation: what it asks for is done and answered, and then what follows the answer."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Any, cast

import msgspec

from agent_framework_hosting import HostingError
from agent_framework_hosting.deadline import DeadlineReached, set_deadline
from agent_framework_hosting.exchange import Exchange
from agent_framework_hosting.telemetry import set_platform_attributes

from ..answers import BOUND, TOO_LARGE, TOO_LATE, answer_of
from ..budget import Budget, budget_for
from ..errors import NoResponse, UnsupportedEvent
from ..events import Answer, HttpEvent
from ..events.http import Scope
from ..stopping import Stuck
from ..triggers import trigger_of
from .api import Raw, RuntimeApi, Undelivered, message_of
from .context import InvocationContext
from .logs import forget_ids, note_ids
from .streamed import BOUND as STREAM_BOUND
from .streamed import StreamedExchange

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message

    from ..function import LambdaFunction

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class BufferedExchange(Exchange):
    """An exchange that wakes whoever waits for its end."""

    __slots__ = ("over",)

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.over = asyncio.Event()

    async def send(self, message: Message) -> None:
        await super().send(message)
        if self.complete:
            self.over.set()


class Serving:
    """Serves invocations of one function, one at a time."""

    def __init__(self, api: RuntimeApi, function: LambdaFunction, *, stream_bound: int = STREAM_BOUND) -> None:
        self.api = api
        self.function = function
        self.stream_bound = stream_bound

    async def serve(self, raw: Raw) -> None:
        """Serve one invocation to its end; its failures are told and logged, and end nothing else.

        Raises:
            Stuck: The app does not end.
        """
        context = InvocationContext(raw)
        budget = budget_for(raw.deadline - time.time(), asyncio.get_running_loop().time())
        note_ids(raw.id, raw.trace_id)
        set_platform_attributes({"faas.invocation_id": raw.id, "aws.xray.trace_header": raw.trace_id})
        os.environ["_X_AMZN_TRACE_ID"] = raw.trace_id  # Where AWS's own SDKs look for it.
        try:
            await self._told(raw, self._answered(raw, context, budget))
            if self.function.owes_work():
                await self.function.work(budget)
        except Exception as error:
            # The caller has his answer, and the next invocation is not to suffer.
            logger.error("The work after the response failed: %s", message_of(error), exc_info=error)
        finally:
            forget_ids()

    async def _told(self, raw: Raw, work: Awaitable[None]) -> None:
        """Do what answers an invocation; if it fails, tell that, and log it."""
        try:
            await work
        except Undelivered as error:
            logger.error("The response of this invocation did not arrive: %s", error)
        except Exception as error:
            expected = isinstance(error, HostingError)
            logger.error("This invocation failed: %s", message_of(error), exc_info=None if expected else error)
            await self._fail(raw, error)

    async def _answered(self, raw: Raw, context: InvocationContext, budget: Budget) -> None:
        function = self.function
        event = decoded(raw.event)
        http = function.read(event, context)
        if http is not None:
            scope, body = function.request(http)
            if http.integration in function.streaming:
                await self._stream(raw, http, scope, body, budget)
                return
            awaited = budget.within(http.patience, asyncio.get_running_loop().time())
            await self._buffer(raw, scope, body, budget, lambda answer: self._respond(raw, http, answer), awaited)
        elif trigger_of(event) == "direct":
            from ..direct import direct_result

            scope, body = function.direct(cast("dict[str, Any]", event), context)

            async def give(answer: Answer) -> None:
                await self._return(raw, direct_result(answer))

            await self._buffer(raw, scope, body, budget, give)
        else:
            await self._return(raw, await function.triggered(event, context, budget))

    async def _buffer(
        self,
        raw: Raw,
        scope: Scope,
        body: bytes,
        budget: Budget,
        deliver: Callable[[Answer], Awaitable[None]],
        awaited: Budget | None = None,
    ) -> None:
        """Have the app answer, and deliver that as soon as it is whole: the app may go on afterwards.

        `awaited` is what of the budget somebody waits for the response.
        """
        awaited = awaited or budget
        exchange = BufferedExchange(body)
        task = self._begin(scope, exchange, awaited)
        try:
            late = await is_late(task, exchange.over, awaited)
            if exchange.complete:
                await self._told(raw, deliver(Answer(exchange.status, exchange.headers, exchange.body)))
            elif late:
                await self._told(raw, deliver(answer_of(TOO_LATE)))
            else:
                raise failure_of(task)
        finally:
            await self._rest(task, budget, answered=exchange.complete)

    async def _stream(self, raw: Raw, http: HttpEvent, scope: Scope, body: bytes, budget: Budget) -> None:
        has_body = scope["method"] != "HEAD"
        exchange = StreamedExchange(self.api, raw.id, http, body, has_body=has_body, bound=self.stream_bound)
        task = self._begin(scope, exchange, budget)
        try:
            late = await is_late(task, exchange.over, budget)
            if exchange.gone:
                # For the case that nothing of it has arrived; if something has, this counts no more.
                await self._fail(raw, DeadlineReached() if late or exchange.failure is None else exchange.failure)
            elif exchange.complete:
                pass
            elif exchange.begun:
                await self._told(raw, exchange.fail(DeadlineReached() if late else failure_of(task)))
            elif late:
                await self._told(raw, exchange.replace(answer_of(TOO_LATE)))
            else:
                raise failure_of(task)
        finally:
            await self._rest(task, budget, answered=exchange.complete)

    def _begin(self, scope: Scope, exchange: Exchange | StreamedExchange, budget: Budget) -> asyncio.Task[None]:
        assert self.function.app is not None
        return asyncio.create_task(call(self.function.app, scope, exchange, budget.work), name="hosting-invocation")

    async def _rest(self, task: asyncio.Task[None], budget: Budget, *, answered: bool) -> None:
        """Let what follows the response come to its end, for as long as there is time.

        Raises:
            Stuck: It does not end.
        """
        clock = asyncio.get_running_loop().time
        current = asyncio.current_task()
        ending = current is not None and current.cancelling() > 0
        if not task.done() and answered and not ending:
            # Updates that it has accepted do not wait for it.
            async with asyncio.TaskGroup() as beside:
                beside.create_task(self.function.work_beside(task, budget), name="hosting-work")
                await asyncio.wait({task}, timeout=max(0.0, budget.work - clock()))
                task.cancel()  # Now, and not when the work beside it has ended: both have the same time for that.
        else:
            task.cancel()
        if not task.done():
            await asyncio.wait({task}, timeout=max(0.0, min(budget.grace, budget.stuck - clock())))
        if not task.done():
            raise Stuck
        if not task.cancelled() and (error := task.exception()) is not None and answered:
            logger.error("An error followed the response: %s", message_of(error), exc_info=error)

    async def _respond(self, raw: Raw, http: HttpEvent, answer: Answer) -> None:
        content = msgspec.json.encode(http.result(answer))
        if len(content) > http.bound:
            logger.error("A response of %d bytes is too large to be given in one piece.", len(content))
            content = msgspec.json.encode(http.result(answer_of(TOO_LARGE)))
        await self.api.respond(raw.id, content)

    async def _return(self, raw: Raw, result: Any) -> None:
        content = msgspec.json.encode(result)
        if len(content) > BOUND:
            raise NoResponse(f"The result has {len(content)} bytes; Lambda takes at most 6 MB.")
        await self.api.respond(raw.id, content)

    async def _fail(self, raw: Raw, error: Exception) -> None:
        try:
            await self.api.fail(raw.id, error)
        except Undelivered as undelivered:
            logger.warning("It was not taken that this invocation failed: %s", undelivered)


async def call(app: ASGIApp, scope: Scope, exchange: Exchange | StreamedExchange, deadline: float) -> None:
    """Run the app in the task's own context, in which its runs know the deadline."""
    set_deadline(deadline)
    await app(scope, exchange.receive, exchange.send)


async def is_late(task: asyncio.Task[None], over: asyncio.Event, budget: Budget) -> bool:
    """Wait for the end of the response, or of the app; True if the time was over before, and the app was stopped."""
    waiting = asyncio.ensure_future(over.wait())
    clock = asyncio.get_running_loop().time
    try:
        await asyncio.wait({task, waiting}, timeout=budget.answer - clock(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if task.done() or over.is_set():
        return False
    task.cancel()
    await asyncio.wait({task}, timeout=max(0.0, budget.stuck - clock()))
    return True


def failure_of(task: asyncio.Task[None]) -> Exception:
    """Give why the app ended without a complete response."""
    if task.cancelled():
        return NoResponse(NoResponse.CANCELLED)
    error = task.exception()
    if isinstance(error, Exception):
        return error
    if error is not None:
        return NoResponse(f"The app raised {type(error).__name__}.")
    return NoResponse(NoResponse.INCOMPLETE)


def decoded(event: bytes) -> object:
    try:
        return msgspec.json.decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnsupportedEvent("This function was invoked with something that is no JSON.") from error
