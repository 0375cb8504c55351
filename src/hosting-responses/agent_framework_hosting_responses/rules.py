"""What an operator lets callers do."""

from __future__ import annotations

import msgspec


class Rules(msgspec.Struct, frozen=True):
    """The default is the closed one.

    `forward` names the body's parameters that reach the agent. `trust_caller_instructions` takes system and developer
    messages, `instructions`, and what a caller says the model said before. `allow_urls` passes https URLs of images
    and files on; they are never fetched here.
    """

    forward: frozenset[str] = frozenset()
    trust_caller_instructions: bool = False
    allow_urls: bool = False
