"""What the endpoints of one channel on one host share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

from starlette.requests import Request

from agent_framework_hosting import (
    ChannelContext,
    ChannelIdentity,
    ChannelResponseHook,
    ChannelRunHook,
    ChannelStreamUpdateHook,
    ConfigurationError,
)
from agent_framework_hosting.auth import Authenticator

from .ids import MAX_ID, is_minted, mint
from .rules import Rules


class Service:
    """`clock` gives seconds since 1970; all other times are in seconds.

    A repeat waits `replay_wait` for a response that is being stored, and a stream `follow_wait` for one that is being
    made; they look every `replay_interval`, later more seldom. `accepting` is how old a queued response must be to
    count as given up where nobody knows of its update.
    """

    def __init__(
        self,
        name: str,
        context: ChannelContext,
        authenticate: Authenticator,
        rules: Rules,
        *,
        run_hook: ChannelRunHook | None,
        response_hook: ChannelResponseHook | None,
        stream_update_hook: ChannelStreamUpdateHook | None,
        response_id_factory: Callable[[], str] | None,
        keep_alive: float,
        clock: Callable[[], float] = time.time,
        mint: Callable[[str], str] = mint,
        replay_wait: float = 2.0,
        replay_interval: float = 0.1,
        follow_wait: float = 900.0,
        accepting: float = 10.0,
    ) -> None:
        self.name = name
        self.context = context
        self.authenticator = authenticate
        self.rules = rules
        self.run_hook = run_hook
        self.response_hook = response_hook
        self.stream_update_hook = stream_update_hook
        self.keep_alive = keep_alive
        self.clock = clock
        self.mint = mint
        self.replay_wait = replay_wait
        self.replay_interval = replay_interval
        self.follow_wait = follow_wait
        self.accepting = accepting
        self._factory = response_id_factory

    async def authenticate(self, request: Request) -> ChannelIdentity | None:
        return await self.authenticator(request)

    @property
    def hooked(self) -> bool:
        """Whether what is streamed, or answered, may be something else than what the target gave."""
        return self.response_hook is not None or self.stream_update_hook is not None

    @property
    def random_ids(self) -> bool:
        """Whether nobody else can know the id of a response that is made."""
        return self._factory is None

    def response_id(self) -> str:
        """Make an id for a response.

        Raises:
            ConfigurationError: The operator's factory gave something that is none.
        """
        if self._factory is None:
            return self.mint("resp")
        made = cast("object", self._factory())
        # No path leads to an id with a slash.
        if not isinstance(made, str) or not 0 < len(made) <= MAX_ID or "/" in made or is_minted("conv", made):
            raise ConfigurationError(f"response_id_factory must give texts of 1 to {MAX_ID} characters without '/'.")
        return made
