"""Start a conversation anew: `python reset.py NAME SESSION_ID`, with the `STATE_DIR` of the running deployment.

`NAME` is the caller's name in `API_KEYS`. The old history is archived, not deleted.
"""

import asyncio
import sys

from app import host

from agent_framework_hosting import isolation_key


async def reset(name: str, session_id: str) -> None:
    async with host.app.router.lifespan_context(host.app):
        await host.reset_session(isolation_key("invocations", name, session_id))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python reset.py NAME SESSION_ID")
    asyncio.run(reset(sys.argv[1], sys.argv[2]))
    print(f"The next turn of {sys.argv[1]}'s conversation {sys.argv[2]} starts anew.")
