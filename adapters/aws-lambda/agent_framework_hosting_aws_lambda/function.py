"""One Lambda function: what it does with each kind of event, whichever runtime brings it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from agent_framework_hosting import ConfigurationError
from agent_framework_hosting.deadline import set_deadline
from agent_framework_hosting.lifespan import Lifespan

from .budget import ENOUGH, Budget, budget_for
from .events import Context, Event, HttpEvent, Settings, http_event, refuse, refuse_malformed
from .events.http import Integration, Scope
from .stopping import in_time
from .triggers import OnEvent, is_foreign, trigger_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from agent_framework_hosting.host import Within
    from agent_framework_hosting.host_updates import HostUpdates


class Host(Protocol):
    """What is used of an `AgentFrameworkHost`."""

    @property
    def app(self) -> ASGIApp: ...

    @property
    def updates(self) -> HostUpdates | None: ...

    def check_platform(self, where: str, *, within: Within) -> None: ...

    def path_of(self, channel: str) -> str | None: ...

    async def let_go(self) -> None: ...


STREAMING = "AF_HOSTING_STREAMING"
INTEGRATIONS: tuple[Integration, ...] = ("function_url", "rest_api")
UNTOLD = 60.0
"""Seconds that an invocation is taken to have where its context does not tell."""

LETTING_GO = 0.25
"""Seconds in which a process that is to end gives its conversations back."""

DAMAGED = (AttributeError, LookupError, TypeError, ValueError)
"""What reading an event raises where it is not as its trigger makes it."""

loading: ContextVar[bool] = ContextVar("hosting_lambda_loading", default=False)
"""Whether our own runtime imports the function: a handler for the stock one is then only what it serves."""

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class LambdaFunction:
    """A host as a Lambda function.

    HTTP requests (function URL, REST and HTTP API, load balancer) go through the host's app, direct calls
    (`{"message": …}`) to its invocations channel. SQS messages and a schedule's `{"af-hosting": "sweep"}` wake the
    work on accepted updates; `{"af-hosting": "ping"}` is answered at once. `on_event(event, context)`, sync or async,
    gets all others, and returns JSON.

    `base_path` is the path under which a custom domain, or a proxy in front, shows this app: it counts as prefix of
    whole segments only, and stages are found without it. `exclude_headers` are kept out of responses. `streaming`
    names what takes responses as streams (`function_url`, `rest_api`), which only our runtime can give: as the
    integration is set up, for an event does not tell. By default `AF_HOSTING_STREAMING` says it, with commas between
    the words.

    Raises:
        ConfigurationError: Something of this cannot be used.
    """

    def __init__(
        self,
        host: Host,
        *,
        base_path: str = "/",
        exclude_headers: Iterable[str] = (),
        streaming: Iterable[Integration] | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        if not hasattr(host, "check_platform"):
            raise ConfigurationError(f"This takes an AgentFrameworkHost, not {type(host).__name__}.")
        base = f"/{base_path.strip('/')}"
        self.host = host
        self.settings = Settings(base.rstrip("/"), frozenset(name.lower() for name in exclude_headers))
        self.streaming = named_integrations(streaming)
        self.on_event = on_event
        self.app: ASGIApp | None = None
        self.lifespan: Lifespan | None = None
        self.updates: HostUpdates | None = None

    def prepare(self, within: Within) -> Lifespan:
        """Make ready to start, and give the app's lifespan; `within` says when updates are worked on in invocations.

        Raises:
            ConfigurationError: The host has an open channel, runs in debug mode, or would lose accepted updates here.
        """
        self.host.check_platform("AWS Lambda", within=within)
        self.app = self.host.app
        self.updates = self.host.updates
        self.lifespan = Lifespan(self.app)
        return self.lifespan

    def read(self, event: object, context: Context) -> HttpEvent | None:
        """Give an event as an HTTP request; None for any other one."""
        return http_event(cast("Event", event), context, self.settings) if isinstance(event, dict) else None

    def request(self, http: HttpEvent) -> tuple[Scope, bytes]:
        """Give the ASGI scope and the body of a request.

        Raises:
            UnsupportedEvent: The event is damaged.
        """
        try:
            scope, body = http.scope, http.body
        except DAMAGED as error:
            refuse_malformed(http.event, error)
        return self.with_state(scope), body

    def direct(self, event: Event, context: Context) -> tuple[Scope, bytes]:
        """Give the ASGI scope and the body of a direct call.

        Raises:
            ConfigurationError: There is no invocations channel.
            UnsupportedEvent: The event is damaged.
        """
        from .direct import direct_request

        if (path := self.host.path_of("invocations")) is None:
            raise ConfigurationError(
                "This function was called with a message, and its host has no channel named 'invocations': give it an "
                "InvocationsChannel, or call it over HTTP."
            )
        try:
            scope, body = direct_request(event, context, path)
        except DAMAGED as error:
            refuse_malformed(event, error, "a direct call")
        return self.with_state(scope), body

    def with_state(self, scope: Scope) -> Scope:
        if self.lifespan is not None and (state := self.lifespan.state):
            scope["state"] = dict(state)
        return scope

    async def triggered(self, event: object, context: Context, budget: Budget | None) -> Any:
        """Do what an event asks for that is neither HTTP nor a direct call, and give the invocation's result.

        Raises:
            UnsupportedEvent: It is none that is known here.
            StateUnavailable: The store did not answer.
            DeadlineReached: The time was over before it was done.
            Stuck: It does not end.
            Exception: What `on_event` raised.
        """
        budget = budget or self.some_budget()
        return await in_time(self._triggered(event, context, budget), budget)

    async def _triggered(self, event: object, context: Context, budget: Budget) -> Any:
        trigger = trigger_of(event)
        if self.on_event is not None and trigger is not None and is_foreign(event, trigger):
            trigger = None
        if trigger == "ping":
            return {"ready": True}
        if trigger is None:
            return await self._others(event, context, budget)
        if self.updates is None:
            if trigger == "sweep":
                return {"swept": False}
            return await self._others(event, context, budget)
        if trigger == "queue":
            return await self._queued(event, self.updates, budget)
        from .sweeping import sweep

        return await sweep(self.updates, budget)

    async def _queued(self, event: object, updates: HostUpdates, budget: Budget) -> Any:
        from .sqs_events import CLOSING, work_off

        drains, until = updates.drains, budget.before(CLOSING)
        drains.enough = budget.total * ENOUGH
        # The last quarter is for what does not end by itself.
        closing = 0.75 * (budget.answer - until)
        preparing = asyncio.create_task(updates.prepare(until), name="hosting-prepare")
        try:
            result = await work_off(event, drains.drain, updates.wake, until=until, closing=closing)
        finally:
            preparing.cancel()
        try:
            # Its result is known: this must not take the time in which that is told.
            async with asyncio.timeout_at(budget.answer - 0.1 * (budget.answer - until)):
                await drains.let_go()
        except TimeoutError:
            logger.warning("A conversation could not be given back in time: it waits until its lease has run out.")
        return result

    async def _others(self, event: object, context: Context, budget: Budget) -> Any:
        if self.on_event is None:
            refuse(event)
        set_deadline(budget.work)
        result = self.on_event(cast("Event", event), context)
        return await result if inspect.isawaitable(result) else result

    def owes_work(self) -> bool:
        """Whether there may be updates to be worked on in this invocation."""
        return self.updates is not None and self.updates.backlog is not None and self.updates.backlog.waits

    async def work(self, budget: Budget | None) -> None:
        """Work on accepted updates until none is left, or the invocation's time is nearly over.

        What goes wrong there is no failure of the invocation: updates stay accepted.
        """
        if self.updates is None or (backlog := self.updates.backlog) is None:
            return
        budget = budget or self.some_budget()
        self.updates.drains.enough = budget.total * ENOUGH
        try:
            await backlog.work(budget.work, end=budget.answer)
        except Exception:
            # The invocation is answered, or about to be: this must not take the place of its response.
            logger.exception("Accepted updates could not be worked on; a sweep will find them.")

    async def work_beside(self, task: asyncio.Task[Any], budget: Budget) -> None:
        """Work on accepted updates for as long as a task goes on, also on those that it accepts."""
        if self.updates is None or (backlog := self.updates.backlog) is None:
            return
        clock = asyncio.get_running_loop().time
        while not task.done() and clock() < budget.work:
            backlog.noted.clear()
            await self.work(budget)
            noted = asyncio.create_task(backlog.noted.wait(), name="hosting-noted")
            try:
                until = max(0.0, budget.work - clock())
                await asyncio.wait({task, noted}, timeout=until, return_when=asyncio.FIRST_COMPLETED)
            finally:
                noted.cancel()

    async def let_go(self) -> None:
        """Give back the conversations of what does not end, before the process does. It takes `LETTING_GO` at most."""
        try:
            async with asyncio.timeout(LETTING_GO):
                await self.host.let_go()
        except Exception as error:
            # The process ends all the same.
            logger.warning("A conversation could not be given back; its lease runs out: %s", error or "no time")

    @staticmethod
    def some_budget() -> Budget:
        """Give what an invocation may take whose context does not tell."""
        return budget_for(UNTOLD, asyncio.get_running_loop().time())


def named_integrations(given: Iterable[Integration] | None) -> frozenset[Integration]:
    """Read what takes streams.

    Raises:
        ConfigurationError: A word is none of the two.
    """
    words = os.environ.get(STREAMING, "").split(",") if given is None else given
    names = {word.strip() for word in words} - {""}
    for name in names:
        if name not in INTEGRATIONS:
            refuse_streaming(name)
    return frozenset(cast("set[Integration]", names))


def refuse_streaming(name: str) -> NoReturn:
    raise ConfigurationError(
        f"{name[:40]!r} cannot take a response as a stream: streaming=, or {STREAMING}, is made of "
        f"{' and '.join(INTEGRATIONS)}, with commas between them."
    )
