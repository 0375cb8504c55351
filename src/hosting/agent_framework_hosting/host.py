"""One agent or workflow, many channels, one Starlette app."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from .channels import Channel, ChannelContribution, Provisioning
from .context import ChannelContext
from .errors import ConfigurationError
from .isolation import IsolationMiddleware, in_foundry
from .limits import DEFAULT_LIMITS, HostLimits
from .places import StatePlaces
from .routing import build_app, check_channels, run_all
from .state.locations import HostStatePaths, StateLocations
from .targets import TargetSource, workflow_of
from .telemetry import find_tracer
from .turns import Turns

if TYPE_CHECKING:
    from agent_framework import CheckpointStorage, SupportsAgentRun, Workflow
    from starlette.applications import Starlette
    from starlette.middleware import Middleware

    from .host_updates import HostUpdates
    from .updates import Inbox

logger = logging.getLogger("agent_framework.hosting")

Within = Literal["never", "without an inbox", "always"]
"""When an adapter works on accepted updates within its platform's invocations."""

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
        inbox: Wakes the work on accepted updates; by default that is done in this process.

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
        limits: HostLimits = DEFAULT_LIMITS,
        inbox: Inbox | None = None,
    ) -> None:
        self._source = TargetSource(target)
        known = self._source.known
        if checkpoint_location is not None and known is not None and workflow_of(known) is None:
            logger.warning(_NO_CHECKPOINTS)
            checkpoint_location = None
        self._warn_of_checkpoints = checkpoint_location is not None
        if not isinstance(cast("object", limits), HostLimits):
            raise ConfigurationError(f"limits is {type(limits).__name__}; give HostLimits(…).")
        self._limits = limits
        self._places = StatePlaces(state_dir, checkpoint_location, limits)
        if (workflow := workflow_of(known)) is not None:
            self._places.check(workflow)
        self._debug = debug
        self._middleware = middleware
        self._channels = check_channels(channels)
        self._turns = Turns(self._places.conversations(), turn_timeout=limits.turn_timeout.total_seconds())
        self._inbox = inbox
        self._updates: HostUpdates | None = None
        self._works_on_updates = True
        self._contributions: list[tuple[Channel, ChannelContribution]] | None = None
        self._app: Starlette | None = None
        self._address = ""

    @property
    def limits(self) -> HostLimits:
        return self._limits

    @property
    def state(self) -> StateLocations:
        """Where this host keeps its state."""
        return self._places.locations

    def _contribute(self) -> list[tuple[Channel, ChannelContribution]]:
        """Ask each channel, once, what it adds to the app."""
        if self._contributions is None:
            self._contributions = [(channel, channel.contribute(self._context(channel))) for channel in self._channels]
        return self._contributions

    def _context(self, channel: Channel) -> ChannelContext:
        return ChannelContext(
            channel.name,
            self._source,
            self._turns,
            self._places.locations.sessions,
            self._limits,
            updates=lambda: self.updates,
            delete=partial(self._places.delete, self._turns.conversations),
        )

    def path_of(self, channel: str) -> str | None:
        """Give the path of a channel, for adapters; None where there is none of that name."""
        return next((each.path or "/" for each in self._channels if each.name == channel), None)

    @property
    def updates(self) -> HostUpdates | None:
        """The work on accepted updates, for adapters; None where no channel has any."""
        if self._updates is None and self._works_on_updates:
            handlers = {
                channel.name: contribution.on_update
                for channel, contribution in self._contribute()
                if contribution.on_update is not None
            }
            if handlers:
                from .host_updates import HostUpdates

                mailboxes, store = self._places.mailboxes(self._turns.conversations), self._places.locations.sessions
                self._updates = HostUpdates(mailboxes, handlers, self._inbox, store=store)
        return self._updates

    @property
    def _needs_updates(self) -> bool:
        """Whether a channel cannot do without the work on updates."""
        contributions = [contribution for _, contribution in self._contribute()]
        return any(each.on_update is not None and not each.updates_optional for each in contributions)

    @property
    def app(self) -> Starlette:
        """The app; built on first use. Its lifespan must run before the first request."""
        if self._app is None:
            middleware = list(self._middleware)
            if in_foundry():
                from starlette.middleware import Middleware

                middleware.insert(0, Middleware(IsolationMiddleware))
            self._app = build_app(
                self._contribute(),
                middleware=middleware,
                debug=self._debug,
                start=self._start,
                stop=self._stop,
                open_inbox=self._open_inbox,
                close_inbox=self._close_inbox,
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
        if opened := self._open_channels():
            raise ConfigurationError(
                f"Channel {opened[0]!r} is open to everybody; that is refused on {where}. Give it auth=…, or "
                "allow_anonymous=True if everybody may use it."
            )
        if not self.state.durable:
            logger.warning(
                "Conversations are kept in memory: on %s each process has its own, and forgets them when it ends. Give "
                "state_dir a place that outlives it.",
                where,
            )

    def check_platform(self, where: str, *, within: Within = "never") -> None:
        """Make sure that the host can run where its process is frozen, or ended, between two requests.

        `within` tells when the adapter works on accepted updates within the invocations, by `updates.backlog`; unless
        that is never, it also works there on what a sweep finds and an inbox cannot be told of.

        Raises:
            ConfigurationError: As `check_exposure`; or a channel accepts updates that would get lost there.
        """
        self.check_exposure(where)
        if not self.state.durable and not self._needs_updates:
            # No channel depends on what would be lost here: the work on updates is not even imported.
            self._works_on_updates = False
        if (updates := self.updates) is None:
            return
        updates.in_background = False
        works = within == "always" or (within == "without an inbox" and self._inbox is None)
        if within != "never":
            updates.work_within(accepted=works)
        updates.at_work = self.state.durable and (works or self._inbox is not None)
        if not self._needs_updates:
            return
        if not self.state.durable:
            raise ConfigurationError(
                f"A channel acknowledges updates and works on them later; on {where} those would be lost without a "
                "state_dir that outlives the process."
            )
        if not works and self._inbox is None:
            raise ConfigurationError(
                f"A channel works on updates after its answer, when {where} may have frozen the process. Give the host "
                "inbox=…, which wakes that work, or serve the channel with host.serve()."
            )

    def _open_channels(self) -> list[str]:
        """Name the channels whose callers nobody checks and whose operator did not ask for that."""
        return [channel.name for channel, contribution in self._contribute() if not contribution.authenticated]

    async def _start(self) -> None:
        await self._source.start()
        workflow = workflow_of(self._source.target)
        if workflow is not None:
            self._places.check(workflow)
        elif self._warn_of_checkpoints:
            logger.warning(_NO_CHECKPOINTS)
        await self._places.locations.probe(checkpoints=workflow is not None)
        self._turns.conversations.keeper = None if workflow is None else self._places.keeper(workflow)
        self._turns.tracer = find_tracer()
        self._turns.runner = await self._source.runner()
        self._places.warn()
        if (updates := self.updates) is not None:
            if self._needs_updates and not self.state.durable:
                logger.warning("Accepted updates are kept in memory: those unfinished when the process ends are lost.")
            updates.drains.tracer = self._turns.tracer
        for name in self._open_channels():
            logger.warning("Channel %r is open to everybody who can reach it: it has no auth.", name)
        logger.info(
            "Serving %s%s; channels: %s; state: %s",
            self._source.description,
            self._address,
            ", ".join(f"{channel.name} at {channel.path or '/'}" for channel in self._channels) or "none",
            self._places.describe(),
        )

    async def let_go(self) -> None:
        """Give back the conversations of all that goes on, before a process ends in which something does not end.

        What it still does is not saved.
        """
        if self._updates is not None:
            await self._updates.drains.let_go()
        await self._turns.conversations.let_go()

    async def _open_inbox(self) -> None:
        if (updates := self.updates) is not None:
            updates.start()

    async def _close_inbox(self) -> None:
        if self._updates is not None:
            await self._updates.stop()

    async def _stop(self) -> None:
        self._turns.runner = None
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
        await self._turns.reset(isolation_key)

    async def provision(self, *, dry_run: bool = False) -> Sequence[str]:
        """Register webhooks and commands with the channels' platforms: a deploy step.

        Returns:
            One line for each thing done, or that would be done with `dry_run`.
        """
        provisioning = Provisioning(dry_run=dry_run)
        steps = [step for _, contribution in self._contribute() for step in contribution.on_provision]
        await run_all([partial(step, provisioning) for step in steps], what="provisioning")
        return provisioning.lines

    def serve(self, *, host: str = "127.0.0.1", port: int = 8000, workers: int = 1, **config: Any) -> None:
        """Serve over HTTP with Hypercorn until interrupted; needs the extra `[serve]`.

        `config` holds further Hypercorn settings by their own names.

        Raises:
            RuntimeError: Hypercorn is not installed.
            ConfigurationError: An open channel would be reachable from outside, or `workers` cannot run.
        """
        from .serve import serve

        def announce(address: str) -> None:
            self._address = f" on {address}"

        serve(self, bind=host, port=port, workers=workers, config=config, announce=announce)
