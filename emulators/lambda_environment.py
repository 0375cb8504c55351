"""Lambda's execution environments: who waits for an invocation, who has one, and what is allowed when.

A runtime's states and their names are those of AWS's own Runtime API server, which names them when it refuses a call
out of turn. An environment of managed instances serves several invocations at once, and is never out of turn.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from emulators.http_connections import Connection, Handler, Listener
from emulators.lambda_calls import Answer, Bell, FunctionError, Invocation


class State(Enum):
    """What a runtime is at, by the name that refusals give it."""

    STARTED = "Started"
    INIT_ERROR = "InitError"
    RESTORE_READY = "RestoreReady"
    RESTORING = "Restoring"
    RESTORE_ERROR = "RestoreError"
    READY = "Ready"
    RUNNING = "Running"
    # Left with an answer that was taken; otherwise the runtime can do nothing any more.
    RESPONDING = "InvocationResponse"
    REPORTING = "InvocationErrorResponse"
    SENT = "RuntimeResponseSentState"


@dataclass
class Misbehaviour:
    """What goes wrong next; counts and lists are used up, `slow` stays.

    `drop_next`: so many requests for the next invocation are hung up on. `drop_responses`: so many whole responses and
    errors are, before they are taken. `garble_next`: so many are answered with what
    is no HTTP. `refuse_responses`: statuses for the next response posts; after 413 the caller has its error, and after
    500 the runtime can only exit, as AWS has it. `reset_stream_after`: the next streamed response is broken off after
    so many bytes, so that writing on is a broken pipe. `slow`: streams are read at so many bytes a second.
    `freeze_at_responses`: so many processes are stopped when a whole response has been taken, before they hear of it;
    `thaw` of the process lets it go on.
    """

    drop_next: int = 0
    drop_responses: int = 0
    garble_next: int = 0
    refuse_responses: list[int] = field(default_factory=list[int])
    reset_stream_after: int | None = None
    slow: int | None = None
    freeze_at_responses: int = 0


@dataclass
class Extension:
    """An internal extension: `events` it registered for, and whether it `waits` at event/next."""

    name: str
    events: tuple[str, ...]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    poll: asyncio.Future[Invocation] | None = None

    @property
    def waits(self) -> bool:
        return self.poll is not None


@dataclass(eq=False)
class Poll:
    """A request for the next invocation that has not been answered yet."""

    connection: Connection
    given: asyncio.Future[Invocation]


class Signals(Protocol):
    """The process of an environment, as far as it can be stopped and continued."""

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def kill(self) -> None: ...


@dataclass
class Desk:
    """What the environments of one function share.

    `freezes`: a runtime that waits is frozen. Limits are in bytes. `past` has all `environments` there ever were.
    """

    freezes: bool
    response_limit: int
    stream_limit: int
    sources: list[Callable[[], str]] = field(default_factory=list[Callable[[], str]])
    misbehave: Misbehaviour = field(default_factory=Misbehaviour)
    queue: list[Invocation] = field(default_factory=list[Invocation])
    environments: list[Environment] = field(default_factory=list["Environment"])
    past: list[Environment] = field(default_factory=list["Environment"])

    def __post_init__(self) -> None:
        self.bell = Bell(self.logs)

    def logs(self) -> str:
        """Give what all processes have written."""
        return "".join(source() for source in self.sources)

    def settle(self) -> None:
        """Hand out what waits to who waits, freeze who goes on waiting, and tell everybody."""
        for call in [*self.queue]:
            free = next((environment for environment in self.environments if environment.takes), None)
            if free is None:
                break
            self.queue.remove(call)
            free.give(call)
        for environment in self.environments:
            environment.rest()
        self.bell.ring()

    def fail_queued(self, error: FunctionError) -> None:
        """An environment that does not come up fails the invocation it was made for."""
        if self.queue:
            self.queue.pop(0).conclude(Answer(error=error))


class Environment:
    """One execution environment, with a Runtime API of its own, as on Lambda: what `serve` makes of it answers there.

    `signals` is its process, None where nobody started one. `concurrent` is that of managed instances. `snap_start` has
    the restore calls. `metadata` answers extensions: functionName, functionVersion, handler.
    """

    def __init__(
        self,
        desk: Desk,
        serve: Callable[[Environment], Handler],
        signals: Signals | None = None,
        *,
        concurrent: bool = False,
        snap_start: bool = False,
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.desk = desk
        self.signals = signals
        self.concurrent = concurrent
        self.snap_start = snap_start
        self.metadata = metadata or {}
        self.listener = Listener(serve(self))
        self.state = State.STARTED
        self.gone = False
        self.frozen = False
        self.polled = False
        self.most_polls = 0
        self.polls: list[Poll] = []
        self.calls: dict[str, Invocation] = {}
        self.holders: dict[Connection, Invocation] = {}
        self.current: Invocation | None = None
        self.extensions: list[Extension] = []
        self.restored = asyncio.Event()
        self.init_error: FunctionError | None = None
        self.restore_error: FunctionError | None = None

    @property
    def address(self) -> str:
        return self.listener.address

    async def open(self) -> None:
        await self.listener.open()
        self.desk.environments.append(self)
        self.desk.past.append(self)

    async def close(self) -> None:
        """Forget it: whoever is connected is hung up on."""
        self.gone = True
        if self in self.desk.environments:
            self.desk.environments.remove(self)
        await self.listener.close()

    def exited(self, code: int, *, killed: bool) -> None:
        """The process has ended: what it had not answered fails; before it was ready, so does who waits for it."""
        self.gone = True
        self.polls.clear()
        reason = f"signal: {-code}" if code < 0 else f"exit status {code}"
        said = f"Runtime exited with error: {reason}" if code else "Runtime exited without providing a reason"
        for call in self.calls.values():
            call.break_off(f"RequestId: {call.id} Error: {said}")
        if not self.polled and not killed and self.init_error is None and self.restore_error is None:
            self.desk.fail_queued(FunctionError("Runtime.ExitError", said))
        if self in self.desk.environments:
            self.desk.environments.remove(self)
        self.desk.settle()

    @property
    def at_rest(self) -> bool:
        """Nothing of it is at work: the runtime waits, all of it that did before, and every extension."""
        return self.takes and (not self.concurrent or len(self.polls) >= self.most_polls)

    @property
    def takes(self) -> bool:
        """It can be given an invocation."""
        waits = bool(self.polls) and self.state is State.READY and not self.gone
        return waits and all(extension.waits for extension in self.extensions)

    def give(self, call: Invocation) -> None:
        """Hand an invocation to the runtime, and its event to the extensions that want it."""
        poll = self.polls.pop(0)
        self.thaw()
        call.start()
        if not self.concurrent:
            self.calls.clear()
            self.state = State.RUNNING
        self.calls[call.id] = self.current = self.holders[poll.connection] = call
        poll.given.set_result(call)
        for extension in self.extensions:
            if "INVOKE" in extension.events and extension.poll is not None:
                extension.poll.set_result(call)
                extension.poll = None

    def poll(self, connection: Connection) -> Poll:
        """A runtime asks for the next invocation: what it had before is over."""
        self.polled = True
        over = self.holders.pop(connection, None)
        if over is None or over.finished is None:
            # It may ask on another connection; then the eldest answered one is taken to be over.
            over = next((call for call in self.calls.values() if call.finished and not call.returned), None)
        if over is not None and over.returned is None:
            over.returned = time.monotonic()
            if self.concurrent:
                self.calls.pop(over.id, None)
        poll = Poll(connection, asyncio.get_running_loop().create_future())
        self.polls.append(poll)
        self.most_polls = max(self.most_polls, len(self.polls))
        self.desk.settle()
        return poll

    def hang_up(self) -> None:
        for poll in self.polls:
            poll.connection.close()

    def withdraw(self, poll: Poll) -> None:
        """A client hung up while it waited; what it was given at that moment goes to another."""
        if poll in self.polls:
            self.polls.remove(poll)
            self.most_polls -= 1
        elif self.concurrent and poll.given.done():
            call = poll.given.result()
            self.calls.pop(call.id, None)
            call.started = None
            self.desk.queue.insert(0, call)
        self.desk.settle()

    def rest(self) -> None:
        """Freeze the process where Lambda would: it waits, or waits to be restored."""
        still = self.at_rest or (self.state is State.RESTORE_READY and not self.restored.is_set())
        if self.desk.freezes and not self.concurrent and self.signals is not None and still and not self.frozen:
            self.frozen = True
            self.signals.freeze()

    def thaw(self) -> None:
        if self.frozen and self.signals is not None:
            self.frozen = False
            self.signals.thaw()

    def restore(self) -> None:
        """Go on after a snapshot."""
        self.thaw()
        self.state = State.RESTORING
        self.restored.set()

    def failed(self, error: FunctionError, state: State) -> None:
        """The runtime reported that it does not come up."""
        self.state = state
        if state is State.INIT_ERROR:
            self.init_error = error
        else:
            self.restore_error = error
        self.desk.fail_queued(error)
        self.desk.settle()

    def named(self, name: str) -> Extension | None:
        return next((extension for extension in self.extensions if extension.name == name), None)
