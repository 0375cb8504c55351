"""Sign and send a message: `python send.py CONVERSATION MESSAGE`, with the `WEBHOOK_SECRETS` of the webhook."""

import asyncio
import os
import sys
import time
import uuid

import httpx2
import msgspec
from signatures import Signatures

from agent_framework_hosting import ConfigurationError

URL = os.environ.get("WEBHOOK_URL", "http://127.0.0.1:8000/webhook")
REPLY_URL = os.environ.get("REPLY_ORIGIN", "http://127.0.0.1:8001") + "/replies"


async def send(conversation: str, text: str) -> None:
    message = {
        "id": str(uuid.uuid4()),
        "conversation": conversation,
        "sequence": time.time_ns() // 1000,
        "message": text,
        "reply_url": REPLY_URL,
    }
    signatures = Signatures(os.environ.get("WEBHOOK_SECRETS", "").split(","))
    await signatures.post(URL, msgspec.json.encode(message), {})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python send.py CONVERSATION MESSAGE")
    try:
        asyncio.run(send(*sys.argv[1:]))
    except (ConfigurationError, httpx2.HTTPError, TimeoutError) as error:
        sys.exit(f"send.py: {error}")
    print("Accepted.")
