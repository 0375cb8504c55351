"""One agent or workflow, many channels, one Starlette app."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from .channels import Channel, ChannelContribution, Provisioning
from .context import HostContext
from .errors import ConfigurationError
from .isolation import IsolationMiddleware, in_foundry
from .keys import check_key
from .limits import HostLimits
from .routing import build_app, check_channels, run_all
from .state.conversations import Conversations
from .state.locations import HostStatePaths, Place, StateLocations, open_state
from .state.transient import TransientConversations
from .targets import TargetSource, check_workflow, is_workflow, own_checkpoints, workflow_of
from .telemetry import find_tracer
from .turns import Turns

if TYPE_CHECKING:
    from agent_framework import CheckpointStorage, SupportsAgentRun, Workflow
    from starlette.applications import Starlette
    from starlette.middleware import Middleware

    from .state.checkpoints import CheckpointKeeper

logger = logging.getLogger("agent_framework.hosting")

_NO_CHECKPOINTS = "checkpoint_location is ignored: the target is an agent, which makes no checkpoints."


class AgentFrameworkHost:
    """Makes one target and its channels into one Starlette app, with its conversations in `state_dir`.

    Args:
        target: An agent, a workflow, a builder, or a factory of one (sync or async).
        channels: What exposes it; names and paths must differ.
        middleware: Around the whole app.
        debug: Starlette's debug mode; adapters refuse it.
        checkpoint_location: Where a workflow's checkpoints go; wins over `state_dir`.
        state_dir: None (memory), a path or URL, or a mapping of them (`HostStatePaths`).
        limits: Bounds of bodies, sessions, leases and waiting.

    Raises:
        ConfigurationError: The parts do not fit together; the message says what to change.
        ValueError: `state_dir` has an unknown key.
        RuntimeError: A workflow has a checkpoint storage of its own, and the host manages one too.
    """

    def __init__(
        self,
        target: SupportsAgentRun | Workflow | Callable[[], Any] | Any,
        *,
        channels: Sequence[Channel],
        middleware: Sequence[Middleware] = (),
        debug: bool = False,
        checkpoint_location: str | os.PathLike[str] | CheckpointStorage | None = None,
        state_dir: str | os.PathLike[str] | HostStatePaths | Mapping[str, str | os.PathLike[str]] | None = None,
        limits: HostLimits | None = None,
    ) -> None:
        check_channels(channels)
        self._limits = limits or HostLimits()
        self._source = TargetSource(target)
        self._debug = debug
        self._middleware = middleware
        self._channels = list(channels)
        self._foreign, place = self._checkpoint_place(checkpoint_location, state_dir)
        self._state = open_state(
            cast("Place | None", state_dir),
            memory_sessions=self._limits.memory_sessions,
            checkpoint_location=place,
        )
        # Checkpoints beside the sessions are only a default: a workflow with a storage of its own keeps that.
        only_sessions = isinstance(state_dir, Mapping) and "checkpoints" not in state_dir
        self._located = place is not None or self._foreign is not None
        self._managed = self._located or (self._state.checkpoints_durable and not only_sessions)
        self._check_target()
        self._turns = Turns(
            Conversations(self._state.sessions, self._limits)
            if self._state.durable
            else TransientConversations(self._limits)
        )
        self._contributions: list[tuple[Channel, ChannelContribution]] | None = None
        self._app: Starlette | None = None
        self.bind_address: str | None = None

    def _checkpoint_place(
        self, location: str | os.PathLike[str] | CheckpointStorage | None, state_dir: object
    ) -> tuple[CheckpointStorage | None, Place | None]:
        if location is None:
            return None, None
        known = self._source.known
        if known is not None and workflow_of(known) is None:
            logger.warning(_NO_CHECKPOINTS)
            return None, None
        if isinstance(state_dir, Mapping) and "checkpoints" in state_dir:
            logger.warning("checkpoint_location wins over state_dir['checkpoints'], which is not used.")
        if isinstance(location, (str, os.PathLike)):
            return None, location
        return location, None

    def _check_target(self) -> None:
        workflow = workflow_of(self._source.known)
        if workflow is not None:
            durable = self._state.durable or self._state.checkpoints_durable or self._foreign is not None
            check_workflow(workflow, durable=durable, managed=self._managed)

    @property
    def state(self) -> StateLocations:
        """Where this host keeps its state."""
        return self._state

    @property
    def limits(self) -> HostLimits:
        return self._limits

    @property
    def channels(self) -> Sequence[tuple[Channel, ChannelContribution]]:
        """The channels and what each adds to the app."""
        if self._contributions is None:
            self._contributions = [
                (
                    channel,
                    channel.contribute(
                        HostContext(channel.name, self._source, self._turns, self._state.sessions, self._limits)
                    ),
                )
                for channel in self._channels
            ]
        return self._contributions

    @property
    def app(self) -> Starlette:
        """The app; built on first use. Its lifespan must run before the first request."""
        if self._app is None:
            middleware = list(self._middleware)
            if in_foundry():
                from starlette.middleware import Middleware

                middleware.insert(0, Middleware(IsolationMiddleware))
            self._app = build_app(
                self.channels, middleware=middleware, debug=self._debug, start=self._start, stop=self._stop
            )
        return self._app

    def check_exposure(self, where: str) -> None:
        """Refuse to be reachable from outside while a channel is open to everybody, or in debug mode.

        State that ends with the process is allowed there, with a warning.

        Raises:
            ConfigurationError: Names the channel and the setting that is missing.
        """
        if self._debug:
            raise ConfigurationError(f"debug=True shows callers the code that failed; it is refused on {where}.")
        for channel in self.open_channels():
            raise ConfigurationError(
                f"Channel {channel.name!r} is open to everybody; that is refused on {where}. Give it auth=…, or "
                "allow_anonymous=True if everybody may use it."
            )
        if not self._state.durable:
            logger.warning(
                "Conversations are kept in memory: on %s each process has its own, and forgets them when it ends. Give "
                "state_dir a place that outlives it.",
                where,
            )

    def open_channels(self) -> list[Channel]:
        """Channels whose callers nobody checks and whose operator did not ask for that."""
        return [channel for channel, contribution in self.channels if not contribution.authenticated]

    async def _start(self) -> None:
        await self._source.start()
        workflow = workflow_of(self._source.target)
        if workflow is None and self._located:
            logger.warning(_NO_CHECKPOINTS)
        self._check_target()
        await self._state.probe(checkpoints=workflow is not None)
        keeper = None if workflow is None else self._keeper(workflow)
        self._turns.tracer = find_tracer()
        wait = self._limits.turn_timeout.total_seconds()
        self._turns.runner = await self._source.runner(keeper, wait=wait)
        for channel in self.open_channels():
            logger.warning("Channel %r is open to everybody who can reach it: it has no auth.", channel.name)
        self._announce()

    def _keeper(self, workflow: Workflow) -> CheckpointKeeper:
        from .state.checkpoints import ForeignCheckpoints, StoredCheckpoints, TransientCheckpoints

        foreign = self._foreign if self._managed else own_checkpoints(workflow)
        if foreign is not None:
            return ForeignCheckpoints(foreign)
        return StoredCheckpoints(self._state.checkpoints) if self._state.checkpoints_durable else TransientCheckpoints()

    def _announce(self) -> None:
        channels = ", ".join(f"{channel.name} at {channel.path or '/'}" for channel in self._channels)
        address = f" on {self.bind_address}" if self.bind_address else ""
        state = "checkpoints in the given storage, " if self._foreign is not None else ""
        logger.info(
            "Serving %s%s; channels: %s; state: %s%s",
            self._source.description,
            address,
            channels or "none",
            state,
            self._state.description,
        )
        if self._state.checkpoints_durable and not self._state.durable and is_workflow(self._source.target):
            logger.warning(
                "Only checkpoints are stored; which of them a conversation continues from is in memory and gone with "
                "the process. Give state_dir a place for sessions as well."
            )

    async def _stop(self) -> None:
        try:
            await self._source.close()
        finally:
            await self._turns.conversations.close()

    async def reset_session(self, isolation_key: str) -> None:
        """Start the conversation anew: its history is archived and the next turn begins with a new session.

        Inside a turn of the same conversation it takes effect when that turn is saved.

        Raises:
            TurnBusy: A turn of the conversation did not end within `turn_timeout`.
            StateUnavailable: The store did not answer.
        """
        await self._turns.reset(check_key(isolation_key))

    async def provision(self, *, dry_run: bool = False) -> Sequence[str]:
        """Register webhooks and commands with the channels' platforms: a deploy step.

        Returns:
            One line for each thing done, or that would be done with `dry_run`.
        """
        provisioning = Provisioning(dry_run=dry_run)

        def bind(step: Callable[[Provisioning], Any]) -> Callable[[], Any]:
            async def call() -> None:
                await step(provisioning)

            call.__qualname__ = getattr(step, "__qualname__", "provision")
            return call

        await run_all([bind(step) for _, contribution in self.channels for step in contribution.on_provision])
        return provisioning.lines

    def serve(self, *, host: str = "127.0.0.1", port: int = 8000, workers: int = 1, **config: Any) -> None:
        """Serve over HTTP with Hypercorn until interrupted; needs the extra `[serve]`.

        `config` holds further Hypercorn settings by their own names.

        Raises:
            RuntimeError: Hypercorn is not installed.
            ConfigurationError: An open channel would be reachable from outside, or `workers` cannot run.
        """
        from .serve import serve

        serve(self, bind=host, port=port, workers=workers, config=config)
