"""Lambda's control plane on this machine, as far as a runtime sees it: the Runtime API and the Extensions API.

    async with RuntimeApi() as api, RuntimeProcess(api, [sys.executable, "runtime.py"], cwd=folder) as process:
        await api.ready()
        call = api.invoke({"rawPath": "/"}, timeout=30)
        arrival, chunk = await call.first_chunk()
        answer = await call.answer()
        await api.idle()                # work after the response is over, too

It shows what the official emulator (`lambda_runtime.py`) does not: when each chunk of a stream comes, freezing, what a
runtime does after its response, extensions' events, SnapStart's restore, several invocations at once, and a platform
that misbehaves. Where both can do a thing, their answers are compared in the tests.

What it does not show: what front ends make of an event or an answer, and their limits and throttling (a stream's first
6 MB go unhindered, the rest at 2 MB/s), IAM, memory limits, retries and queues of asynchronous invocations, external
extensions and with them SHUTDOWN events, the Telemetry API, a memory image (a restored runtime is the same process,
which was only frozen), networks. Deadlines are told, but kept only by `time_out`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Self

from emulators.lambda_calls import FUNCTION, PATIENCE, REGION, Answer, FunctionError, Invocation
from emulators.lambda_environment import Desk, Environment, Extension, Misbehaviour, State
from emulators.lambda_routes import Routes

__all__ = ["Answer", "Extension", "FunctionError", "Invocation", "Misbehaviour", "RuntimeApi", "RuntimeEnded"]

# What the real one allows, with the 100 bytes it gives away ("Exceeded maximum allowed payload size (6291556 bytes).").
RESPONSE_LIMIT = 6 * 2**20 + 100
STREAM_LIMIT = 200 * 2**20
ARN = f"arn:aws:lambda:{REGION}:123456789012:function:{FUNCTION}"


class RuntimeEnded(Exception):
    """What is waited for will not come: there is no process any more."""


class RuntimeApi:
    """One function: invocations wait here until a runtime asks for them, and each goes to exactly one.

    Every `RuntimeProcess` is an environment with a Runtime API of its own. `address`, "127.0.0.1:port", is that of one
    more, which belongs to no process and takes any number of pollers at once.

    `freeze_after_next`: a runtime that waits for an invocation, or to be restored, is stopped (SIGSTOP), and goes on
    when there is one; those of managed instances never are. Limits are in bytes.
    """

    def __init__(
        self,
        *,
        freeze_after_next: bool = False,
        response_limit: int = RESPONSE_LIMIT,
        stream_limit: int = STREAM_LIMIT,
    ) -> None:
        self.desk = Desk(freeze_after_next, response_limit, stream_limit)
        self.environment = Environment(self.desk, lambda environment: Routes(environment).serve, concurrent=True)

    async def __aenter__(self) -> Self:
        await self.environment.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for environment in [*self.desk.environments]:
            await environment.close()

    @property
    def address(self) -> str:
        return self.environment.address

    @property
    def misbehave(self) -> Misbehaviour:
        return self.desk.misbehave

    @property
    def init_error(self) -> FunctionError | None:
        """The last init error that was reported."""
        return next((one.init_error for one in reversed(self.desk.past) if one.init_error), None)

    @property
    def restore_error(self) -> FunctionError | None:
        """The last restore error that was reported."""
        return next((one.restore_error for one in reversed(self.desk.past) if one.restore_error), None)

    @property
    def extensions(self) -> list[Extension]:
        """The extensions of all environments there are."""
        return [extension for environment in self.desk.environments for extension in environment.extensions]

    @property
    def polls(self) -> int:
        """How many requests for the next invocation wait."""
        return sum(len(environment.polls) for environment in self.desk.environments)

    def logs(self) -> str:
        """What all processes have written."""
        return self.desk.logs()

    def invoke(
        self, event: object, *, timeout: float = 30.0, trace_id: str | None = None, arn: str = ARN
    ) -> Invocation:
        """Queue an invocation, with JSON or bytes. Its deadline is `timeout` seconds after a runtime gets it."""
        trace = (
            trace_id
            or f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent={uuid.uuid4().hex[:16]};Sampled=0"
        )
        call = Invocation(event, timeout, trace, arn, self.desk.bell)
        self.desk.queue.append(call)
        self.desk.settle()
        return call

    def hang_up(self) -> None:
        """Hang up on everybody who waits for an invocation."""
        for environment in self.desk.environments:
            environment.hang_up()

    async def ready(self, polls: int = 1, *, timeout: float = PATIENCE) -> None:
        """Wait until so many runtimes ask for an invocation, and their extensions wait for an event, too.

        Raises:
            TimeoutError: They do not after `timeout` seconds.
            RuntimeEnded: Every process has ended.
        """

        def ready() -> bool:
            return sum(len(one.polls) for one in self.desk.environments if one.at_rest) >= polls

        await self._until(ready, "No runtime asks for an invocation.", timeout)

    async def idle(self, *, timeout: float = PATIENCE) -> None:
        """Wait until every invocation is over, also what a runtime does after its response.

        Raises:
            TimeoutError: They are not after `timeout` seconds.
            RuntimeEnded: Every process has ended.
        """

        def idle() -> bool:
            busy = [one for one in self.desk.environments if one.polled and not one.at_rest]
            return not self.desk.queue and not busy and any(one.at_rest for one in self.desk.environments)

        await self._until(idle, "Some runtime is still at an invocation.", timeout)

    async def snapshot(self, *, timeout: float = PATIENCE) -> None:
        """Wait until a runtime has asked for restore/next: that is where SnapStart takes its snapshot.

        Raises:
            TimeoutError: It has not after `timeout` seconds.
            RuntimeEnded: Every process has ended.
        """
        await self._until(lambda: bool(self._snapshots()), "No runtime waits to be restored.", timeout)

    def restore(self) -> None:
        """Let all runtimes go on that wait to be restored."""
        for environment in self._snapshots():
            environment.restore()

    def _snapshots(self) -> list[Environment]:
        return [one for one in self.desk.environments if one.state is State.RESTORE_READY]

    async def time_out(self, call: Invocation, *, timeout: float = PATIENCE) -> bool:
        """Keep a deadline as Lambda does: when it has come, kill the runtime and tell the caller of the time-out.

        Gives False where the runtime was done in time, work after the response included. Without a process, only the
        answer is given.

        Raises:
            TimeoutError: No runtime takes the invocation within `timeout` seconds.
        """
        started = await call.handed_out(timeout)
        left = started + call.timeout - time.monotonic()
        try:
            await self.desk.bell.until(lambda: call.returned is not None, "", left)
        except TimeoutError:
            call.timed_out = True
        if call.timed_out:
            said = f"RequestId: {call.id} Error: Task timed out after {call.timeout:.2f} seconds"
            call.fail("Sandbox.Timedout", said)
            for environment in [*self.desk.environments]:
                if environment.signals is not None and call.id in environment.calls:
                    environment.signals.kill()
        return call.timed_out

    async def _until(self, condition: Callable[[], bool], complaint: str, timeout: float) -> None:
        def ended() -> bool:
            processes = [one for one in self.desk.past if one.signals is not None]
            return bool(processes) and all(one.gone for one in processes) and not self.environment.polls

        await self.desk.bell.until(lambda: condition() or ended(), complaint, timeout)
        if not condition():
            raise RuntimeEnded(f"{complaint} Every process has ended.\n--- logs ---\n{self.logs()}")


def new_trace_id() -> str:
    """Make one as X-Ray does ("Tracing header")."""
    return f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent={uuid.uuid4().hex[:16]};Sampled=0"
