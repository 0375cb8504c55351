"""The host, as one channel sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError
from .keys import turn_id
from .limits import HostLimits
from .requests import ChannelRequest, HostedRunResult
from .state.store import ScopedStore, StateStore

if TYPE_CHECKING:
    from agent_framework import SupportsAgentRun, Workflow

    from .channels import Attach, ChannelResponseHook, ChannelRunHook, ChannelStreamUpdateHook, HostedStream, OnSaved
    from .host_updates import HostUpdates
    from .targets import TargetSource
    from .turns import Turns
    from .updates import InboundUpdate, Standing


class ChannelContext:
    """What a channel works with; hosts make it.

    `documents` is the channel's own part of the store, `limits` are the host's.
    """

    documents: StateStore
    limits: HostLimits

    def __init__(
        self,
        name: str,
        source: TargetSource,
        turns: Turns,
        store: StateStore,
        limits: HostLimits,
        *,
        updates: Callable[[], HostUpdates | None] = lambda: None,
        delete: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self.limits = limits
        self._updates = updates
        self._delete = delete
        self.documents = ScopedStore(store, f"d/{name}")
        self._name = name
        self._source = source
        self._turns = turns

    @property
    def target(self) -> SupportsAgentRun | Workflow:
        """What the host serves.

        Raises:
            ConfigurationError: It comes from a factory, and the app has not been started.
        """
        return self._source.target

    async def run(
        self,
        request: ChannelRequest,
        *,
        run_hook: ChannelRunHook | None = None,
        protocol_request: Any | None = None,
        response_hook: ChannelResponseHook | None = None,
        channel_name: str | None = None,
        on_saved: OnSaved | None = None,
        attach: Attach | None = None,
    ) -> HostedRunResult[Any]:
        """Run one turn and save it.

        `on_saved` is awaited with the result, after the response hook: also, for some seconds, where the caller was
        cancelled when saving had begun. It is the place for what belongs to a saved turn. `attach` gives the JSON that
        the conversation keeps for the channel (`attachment`), which goes into the same write as the turn; where the
        request has a `copy`, that one keeps it, and where a response hook changes the result, a write of its own.

        Raises:
            InvalidRequest: The target cannot be run with this input, options or responses.
            TurnBusy: The conversation, or the workflow, stayed busy for `HostLimits.turn_timeout`.
            TurnConflict: The lease was lost; nothing was saved.
            TurnRepeated: The idempotency key names a turn that is already saved.
            SessionTooLarge: The conversation is too large to be continued.
            StateUnavailable: The store did not answer.
            StateDamaged: A stored document cannot be read.
            Exception: What the target or a hook raised. A `HostingError` says in `started` whether the target had.
        """
        return await self._turns.run(
            request,
            run_hook=run_hook,
            protocol_request=protocol_request,
            response_hook=response_hook,
            channel_name=channel_name or self._name,
            on_saved=on_saved,
            attach=attach,
        )

    async def run_stream(
        self,
        request: ChannelRequest,
        *,
        run_hook: ChannelRunHook | None = None,
        protocol_request: Any | None = None,
        stream_update_hook: ChannelStreamUpdateHook | None = None,
        response_hook: ChannelResponseHook | None = None,
        channel_name: str | None = None,
        on_saved: OnSaved | None = None,
        attach: Attach | None = None,
    ) -> HostedStream:
        """Start one turn; the same errors as `run`, here or while the stream is consumed."""
        return await self._turns.stream(
            request,
            run_hook=run_hook,
            protocol_request=protocol_request,
            stream_update_hook=stream_update_hook,
            response_hook=response_hook,
            channel_name=channel_name or self._name,
            on_saved=on_saved,
            attach=attach,
        )

    async def reset_session(self, isolation_key: str) -> None:
        """Start the conversation anew; its history is archived. Within a turn of it, when that turn is saved."""
        await self._turns.reset(isolation_key, channel_name=self._name)

    async def attachment(self, isolation_key: str) -> bytes | None:
        """Read what `attach` gave to the last turn of a conversation; None if there is none, or no such conversation.

        Raises:
            StateUnavailable: The store did not answer.
            StateDamaged: It cannot be read.
        """
        return await self._turns.conversations.attachment(isolation_key)

    async def amend(self, isolation_key: str, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Put what `change` makes of a conversation's attachment in its place, and give that; None leaves it as it is.

        This waits for nobody: a turn that is running in the conversation saves nothing any more, and ends at its next
        renewal. An update that is being worked on does this to its own conversation without harm. `change` may be
        called several times.

        Raises:
            UnknownConversation: There is no such conversation.
            TurnConflict: Others wrote, again and again.
            StateUnavailable: It may be changed, or not.
        """
        return await self._turns.amend(isolation_key, change)

    async def begin(self, isolation_key: str, attachment: bytes, *, idempotency_key: str | None = None) -> None:
        """Begin a conversation without a run; a turn with that idempotency key is a repeat of this.

        Raises:
            TurnConflict: There is one with this key.
            StateUnavailable: The store did not answer.
        """
        given = None if idempotency_key is None else turn_id(isolation_key, idempotency_key)
        turn = await self._turns.conversations.begin(isolation_key, given, fresh=True)
        try:
            await turn.commit(snapshot=None, checkpoint=None, attachment=attachment)
        finally:
            await turn.end()

    async def delete(self, isolation_key: str) -> bool:
        """Delete a conversation with all that belongs to it; False if there is none. A running turn is not saved.

        Raises:
            TurnConflict: It was begun anew meanwhile.
            StateUnavailable: The store did not answer. Do it again.
        """
        if self._delete is None:
            raise ConfigurationError("This context was made without a host that could delete conversations.")
        return await self._delete(isolation_key)

    async def accept(self, update: InboundUpdate) -> bool:
        """Take an update over: once this has returned it is worked on until it is done or set aside.

        False if that is so already: it was done, or is about to be, when a repeat of it came.

        Raises:
            ConfigurationError: The channel contributes no `on_update`.
            InvalidRequest: The update cannot be kept as it is.
            StateUnavailable: It was not taken over; have the platform send it again (503).
        """
        return await self._updates_of(update).accept(update)

    @property
    def accepting(self) -> bool:
        """Whether what this channel accepts is worked on: not where a platform cannot, and no inbox wakes it."""
        updates = self._updates()
        return updates is not None and updates.at_work

    async def standing(self, update: InboundUpdate) -> Standing | None:
        """Tell what becomes of an update that was accepted; None where nothing will any more.

        Raises:
            StateUnavailable, StateDamaged: It cannot be told.
        """
        return await self._updates_of(update).standing(update)

    async def interrupt(self, update: InboundUpdate) -> None:
        """End an attempt at an update, if one is under way: at its next renewal. It is made once more, at once.

        Raises:
            StateUnavailable: It may go on.
        """
        await self._updates_of(update).interrupt(update)

    def _updates_of(self, update: InboundUpdate) -> HostUpdates:
        updates = self._updates()
        if update.channel != self._name:
            raise ConfigurationError(f"Channel {self._name!r} cannot accept updates of channel {update.channel!r}.")
        if updates is None:
            raise ConfigurationError(f"Channel {update.channel!r} accepts updates and contributes no on_update.")
        return updates
