"""The handler for Lambda's stock Python runtime."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from mangum import Mangum

from agent_framework_hosting import ConfigurationError
from agent_framework_hosting.lifespan import Lifespan

from .events import KINDS, refuse, refuse_malformed
from .exchange import Invocation
from .termination import Termination

if TYPE_CHECKING:
    from mangum.types import ASGI, LambdaContext, LambdaEvent
    from mangum.types import LambdaHandler as EventKind
    from starlette.types import ASGIApp

    class Host(Protocol):
        """What a handler needs of an `AgentFrameworkHost`."""

        @property
        def app(self) -> ASGIApp: ...

        def check_platform(self, where: str) -> None:
            """Raise ConfigurationError for what must not be reachable from outside, or would be lost here."""
            ...


class LambdaHandler:
    """Serves a host's app to API Gateway, function URLs and load balancers: `handler = LambdaHandler(host)`.

    Construct it at module level. Start-up runs there, once, in Lambda's init phase; what it raises is Lambda's init
    error. The event loop made for it is the only one of the process and turns only during an invocation: a task left
    behind by a request stops, and goes on within the next one.

    `base_path` is the path under which a custom domain, or a proxy in front, shows this app. It counts as prefix of
    whole segments only. Stages are found without it. `exclude_headers` are kept out of responses.

    Raises:
        ConfigurationError: The host has an open channel, runs in debug mode, or would lose accepted updates here.
        Exception: What the app raised during start-up.
    """

    def __init__(self, host: Host, *, base_path: str = "/", exclude_headers: Sequence[str] = ()) -> None:
        if in_event_loop():
            raise RuntimeError("Construct LambdaHandler at module level: it runs start-up on an event loop of its own.")
        if not hasattr(host, "check_platform"):
            raise ConfigurationError(f"LambdaHandler takes an AgentFrameworkHost, not {type(host).__name__}.")
        host.check_platform("AWS Lambda")
        self._app = host.app
        self._lifespan = Lifespan(self._app)
        self._process = os.getpid()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        # Mangum knows the kinds of events; the exchange with the app is ours.
        self._mangum = Mangum(
            cast("ASGI", self._app),
            lifespan="off",
            api_gateway_base_path=f"/{base_path.strip('/')}",
            custom_handlers=cast("list[type[EventKind]]", KINDS),
            exclude_headers=[*exclude_headers],
        )
        try:
            self._runner.run(self._lifespan.start())
        except BaseException:
            self._runner.close()
            raise
        self._termination = Termination(self._terminate)

    def __call__(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """Serve one invocation.

        Raises:
            UnsupportedEvent: The event is no HTTP request.
            NoResponse: The app ended without a complete response.
            Exception: What the app raised before its response was complete.
        """
        if os.getpid() != self._process:
            raise ConfigurationError(
                "LambdaHandler was made before this process was forked: construct it in the process that serves."
            )
        if self._loop.is_running() or in_event_loop():
            raise RuntimeError("LambdaHandler serves one invocation at a time, and not from within an event loop.")
        if not isinstance(event, dict):  # pyright: ignore[reportUnnecessaryIsInstance]  # any JSON may arrive
            refuse(event)
        # asyncio.run(), by whomever it was called since, leaves the thread without a current loop.
        asyncio.set_event_loop(self._loop)
        request = self._mangum.infer(event, context)
        try:
            invocation = Invocation(request.scope, request.body, self._lifespan.state)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            refuse_malformed(event, error)
        invocation.run(self._app, self._loop)
        return request(invocation.response())

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
