"""Start a conversation anew: `python reset.py NAME SESSION_ID`, with the `STATE_DIR` of the running deployment.

`NAME` is the caller's name in `API_KEYS`. The old history is archived, not deleted.
"""

import asyncio
import os
import sys

from app import build_host

from agent_framework_hosting import HostingError, isolation_key


async def reset(name: str, session_id: str) -> None:
    # Nobody is served here, so that nobody has to be kept out either.
    host = build_host({**os.environ, "SAMPLE_ALLOW_ANONYMOUS": "1"})
    async with host.app.router.lifespan_context(host.app):
        await host.reset_session(isolation_key("invocations", name, session_id))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python reset.py NAME SESSION_ID")
    if not os.environ.get("STATE_DIR"):
        sys.exit(
            "reset.py: set STATE_DIR to that of the running deployment. What is in memory, only its process can reset."
        )
    caller, conversation = sys.argv[1:]
    try:
        asyncio.run(reset(caller, conversation))
    except (HostingError, OSError) as error:
        sys.exit(f"reset.py: {error}")
    print(f"If {caller} had a conversation {conversation}, it is archived. The next turn begins a new one.")
