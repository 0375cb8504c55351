"""How large a stored conversation may become."""

from __future__ import annotations

import logging

from ..errors import SessionTooLarge

logger = logging.getLogger("agent_framework.hosting.state")

_WARN_AT = 0.8


def admit_size(size: int, bound: int) -> None:
    """Refuse a conversation of more than `bound` bytes before its run is paid for; warn from 80 %.

    Raises:
        SessionTooLarge: Says what to do.
    """
    if size <= bound * _WARN_AT:
        return
    if size > bound:
        raise SessionTooLarge(
            f"This conversation has grown to {size} bytes; HostLimits.session_bytes is {bound}. "
            "Reset it, start a new one, or keep less in it: an agent can compact its history."
        )
    logger.warning("A conversation has reached %d of %d bytes; at the bound it is refused.", size, bound)
