"""What a channel hands to the host, and what it gets back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from agent_framework import AgentRunInputs

R = TypeVar("R")
_KEEP: Any = object()


def _nothing() -> dict[str, Any]:
    return {}


class ChannelSession:
    """Names the conversation of a request; without `isolation_key` there is none, and nothing is kept.

    `parent` copies that conversation and saves the result under `isolation_key`. `fresh` promises that nobody
    else can know the key (it was just minted from random bits), which saves the turn its lease; another key ends that.
    With `existing` the conversation must be there already. `copy` is a fresh key as well, under which the conversation
    as this turn left it is saved a second time, to be continued from there; with `copy_over` it is one that is there,
    as long as it has that attachment. `admit` gets the attachment of the parent, before the target runs, and raises
    where that one is not to be continued.
    """

    __slots__ = ("_isolation_key", "admit", "copy", "copy_over", "existing", "fresh", "parent")

    def __init__(
        self,
        isolation_key: str | None = None,
        *,
        parent: str | None = None,
        fresh: bool = False,
        existing: bool = False,
        copy: str | None = None,
        copy_over: bytes | None = None,
        admit: Callable[[bytes | None], None] | None = None,
    ) -> None:
        self._isolation_key = isolation_key
        self.parent = parent
        self.fresh = fresh
        self.existing = existing
        self.copy = copy
        self.copy_over = copy_over
        self.admit = admit

    @property
    def isolation_key(self) -> str | None:
        return self._isolation_key

    @isolation_key.setter
    def isolation_key(self, key: str | None) -> None:
        self._isolation_key = key
        self.fresh = False

    def __repr__(self) -> str:
        return f"ChannelSession({self.isolation_key!r}, parent={self.parent!r})"


class ChannelIdentity:
    """Who sent a request, in the channel's own terms."""

    __slots__ = ("attributes", "channel", "native_id")

    def __init__(self, channel: str, native_id: str, attributes: Mapping[str, Any] | None = None) -> None:
        self.channel = channel
        self.native_id = native_id
        self.attributes: Mapping[str, Any] = {} if attributes is None else dict(attributes)

    def __repr__(self) -> str:
        return f"ChannelIdentity({self.channel!r}, {self.native_id!r})"


@dataclass
class ChannelRequest:
    """One request to the target. `responses` answer pending requests, by their ids.

    `attributes["idempotency_key"]` (text) makes a repeat of the request the same turn; `traceparent` and
    `tracestate` there continue the caller's trace.
    """

    channel: str
    operation: str
    input: AgentRunInputs | Any
    session: ChannelSession | None = None
    options: Mapping[str, Any] | None = None
    session_mode: Literal["auto", "disabled"] = "auto"
    metadata: Mapping[str, Any] = field(default_factory=_nothing)
    attributes: Mapping[str, Any] = field(default_factory=_nothing)
    stream: bool = False
    identity: ChannelIdentity | None = None
    responses: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class PendingRequest:
    """A question the target waits for: a workflow's request or an agent's tool approval.

    `data` is JSON-able. `response_schema` is the JSON schema of an answer, where it is known.
    """

    id: str
    kind: Literal["workflow_request", "tool_approval"]
    data: Any
    response_schema: Mapping[str, Any] | None


class HostedRunResult(Generic[R]):
    """The target's own result, unflattened, with the session it ran in and what it now waits for.

    `saved` tells whether there is something to continue under the request's isolation key.
    """

    __slots__ = ("pending", "result", "saved", "session")

    def __init__(
        self,
        result: R,
        *,
        session: Any | None = None,
        pending: Sequence[PendingRequest] = (),
        saved: bool = False,
    ) -> None:
        self.result = result
        self.session = session
        self.pending = pending
        self.saved = saved

    def replace(self, *, result: Any = _KEEP, session: Any = _KEEP, pending: Any = _KEEP) -> HostedRunResult[Any]:
        """Give a copy with the named parts exchanged."""
        return HostedRunResult(
            self.result if result is _KEEP else result,
            session=self.session if session is _KEEP else session,
            pending=self.pending if pending is _KEEP else pending,
            saved=self.saved,
        )

    def __repr__(self) -> str:
        return f"HostedRunResult({self.result!r}, pending={list(self.pending)!r})"


class ChannelCommandContext:
    """What a command handler works with; `reset` is the channel's `ChannelContext.reset_session`."""

    def __init__(
        self,
        request: ChannelRequest,
        reply: Callable[[str], Awaitable[None]],
        *,
        reset: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.request = request
        self._reply = reply
        self._reset = reset

    async def reply(self, text: str) -> None:
        await self._reply(text)

    async def reset_session(self) -> None:
        """Start the request's own conversation anew.

        Raises:
            LookupError: The request names no conversation, or the channel made this context without `reset`.
        """
        session = self.request.session
        if session is None or session.isolation_key is None:
            raise LookupError("This command runs outside a conversation: there is no session to reset.")
        if self._reset is None:
            raise LookupError("The channel made this context without reset=: give it ChannelContext.reset_session.")
        await self._reset(session.isolation_key)


class ChannelCommand:
    """A slash command that a channel registers with its platform."""

    __slots__ = ("description", "handle", "name")

    def __init__(self, name: str, description: str, handle: Callable[[ChannelCommandContext], Awaitable[None]]) -> None:
        self.name = name
        self.description = description
        self.handle = handle
