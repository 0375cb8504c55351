"""The handler for Lambda's stock Python runtime."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, cast

from agent_framework_hosting import ConfigurationError

from .answers import stock_result
from .budget import Budget, budget_of
from .events import Context, Event, HttpEvent, Integration
from .exchange import Invocation
from .function import Host, LambdaFunction, loading
from .snapshots import is_snapshot, on_restore
from .stopping import Stuck
from .termination import Termination
from .triggers import OnEvent, trigger_of

T = TypeVar("T")

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class LambdaHandler:
    """Serves a host on the stock runtime: `handler = LambdaHandler(host)`; what it serves is told at `LambdaFunction`.

    Construct it at module level. Start-up runs there, once, in Lambda's init phase; what it raises is Lambda's init
    error. With SnapStart it runs after each restore instead. The event loop made for it is the only one of the process
    and turns only during an invocation: a task left behind by a request stops, and goes on within the next one.

    Accepted updates are worked on before the response, which they delay; where the host has an `inbox` (`SqsInbox`)
    that is told of them, and an invocation of its own works on them. No invocation ends with a conversation's lease:
    where an app goes on although it is cancelled, the leases are given back and the process ends.

    Our own runtime takes the same handler, and only what it serves: nothing of this class is then used.

    Raises:
        ConfigurationError: The host has an open channel, runs in debug mode, or would lose accepted updates here.
        Exception: What the app raised during start-up.
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
        if in_event_loop():
            raise RuntimeError("Construct LambdaHandler at module level: it runs start-up on an event loop of its own.")
        self.function = LambdaFunction(
            host, base_path=base_path, exclude_headers=exclude_headers, streaming=streaming, on_event=on_event
        )
        if loading.get():  # It starts the function itself, on the loop that serves.
            return
        if os.environ.get("AF_HOSTING_SSM"):
            raise ConfigurationError(
                "AF_HOSTING_SSM is for our runtime, and this is another one: set AWS_LAMBDA_EXEC_WRAPPER as well, or "
                "have the function's own code read its parameters."
            )
        self._lifespan = self.function.prepare("without an inbox")
        self._process = os.getpid()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._started = False
        self._failure: BaseException | None = None
        self._termination = Termination(self._terminate)
        if is_snapshot():
            # What start-up makes (connections, credentials, random numbers) is no two environments' to share.
            on_restore(self._start)
        else:
            self._start()

    def _start(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._started:
            return
        self._started = True
        if is_snapshot():
            random.seed()
        try:
            self._runner.run(self._lifespan.start())
        except BaseException as failure:
            self._failure = failure
            self._termination.withdraw()
            self._runner.close()
            raise

    def __call__(self, event: Event, context: Context) -> Any:
        """Serve one invocation.

        Raises:
            UnsupportedEvent: The event is none that is served.
            NoResponse: The app ended without a complete response.
            CallFailed: A direct call was answered with an error.
            DeadlineReached: What is no request was not done in time.
            Stuck: The app does not end: the process does, and Lambda makes a new one.
            Exception: What the app raised before its response was complete.
        """
        if os.getpid() != self._process:
            raise ConfigurationError(
                "LambdaHandler was made before this process was forked: construct it in the process that serves."
            )
        if self._loop.is_running() or in_event_loop():
            raise RuntimeError("LambdaHandler serves one invocation at a time, and not from within an event loop.")
        self._start()
        # asyncio.run(), by whomever it was called since, leaves the thread without a current loop.
        asyncio.set_event_loop(self._loop)
        budget = budget_of(context, self._loop)
        try:
            result = self._served(event, context, budget)
        except Stuck as stuck:
            self._give_up(stuck)
            raise
        except Exception:
            # The request has failed, and Lambda is told; what was accepted is worked on all the same.
            self._work(budget)
            raise
        self._work(budget)
        return result

    def _work(self, budget: Budget | None) -> None:
        if self.function.owes_work():
            self._run(self.function.work(budget))

    def _give_up(self, stuck: Stuck) -> None:
        from .runtime.ending import LAST_WORDS, end_within

        logger.error("This environment ends: %s", stuck)
        self._run(self.function.let_go())
        end_within(LAST_WORDS, 1)

    def _served(self, event: Event, context: Context, budget: Budget | None) -> Any:
        http = self.function.read(event, context)
        if http is not None:
            return self._http(http, budget)
        if trigger_of(event) == "direct":
            return self._direct(event, context, budget)
        return self._run(self.function.triggered(event, context, budget))

    def _http(self, http: HttpEvent, budget: Budget | None) -> dict[str, Any]:
        invocation = Invocation(*self.function.request(http))
        within = None if budget is None else budget.within(http.patience, self._loop.time())
        invocation.run(self._app, self._loop, within)
        return stock_result(http, invocation.answer())

    def _direct(self, event: Event, context: Context, budget: Budget | None) -> Any:
        from .direct import direct_result

        invocation = Invocation(*self.function.direct(event, context))
        invocation.run(self._app, self._loop, budget)
        return direct_result(invocation.answer())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    @property
    def _app(self) -> Any:
        return cast(Any, self.function.app)

    def _terminate(self) -> None:
        # Within the 500 ms that SIGTERM leaves; not in the middle of an invocation, nor in a fork.
        if os.getpid() == self._process and not self._loop.is_running() and not in_event_loop():
            self._runner.run(asyncio.wait_for(self._lifespan.stop(), timeout=0.4))

    def close(self) -> None:
        """Run shutdown and close the loop, for tests and scripts: Lambda itself seldom gives the chance."""
        self._termination.withdraw()
        try:
            self._runner.run(self._lifespan.stop())
        finally:
            self._runner.close()


def in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
