"""What sends webhooks, takes replies, and looks into the store of a function."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from webhook_channel.signatures import SIGNATURE, TIMESTAMP, sign

from agent_framework_hosting import InboundUpdate, isolation_key
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.documents import all_names, find_head
from agent_framework_hosting.state.head import Head, Lease
from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.mailbox import StoredMailboxes
from agent_framework_hosting.state.store import StateStore
from agent_framework_hosting.state.stored import StoredConversations
from emulators.lambda_events import Event, HttpRequest, function_url
from tests.aws_lambda.updates.settings import KEY, SECRET, limits
from tests.hosting.mailbox.desk import dead, head_of

SWEEP, PING = {"af-hosting": "sweep"}, {"af-hosting": "ping"}


def key_of(conversation: str) -> str:
    return isolation_key("webhook", conversation)


def message(origin: str, id: str, conversation: str, *, sequence: int = 1, text: str = "hello") -> bytes:
    fields = {"id": id, "conversation": conversation, "sequence": sequence, "message": text}
    return json.dumps({**fields, "reply_url": f"{origin}/replies"}).encode()


def webhook(body: bytes, **headers: str) -> Event:
    """A signed message, as a function URL gives it to the function."""
    stamp = str(int(time.time()))
    signed = {"content-type": "application/json", TIMESTAMP: stamp, SIGNATURE: sign(SECRET, stamp, body)}
    lines = [*signed.items(), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return function_url(HttpRequest("POST", "/webhook", headers=lines, body=body))


def responses(method: str, path: str = "", body: object = None) -> Event:
    """A request to the responses channel."""
    headers = [("content-type", "application/json"), ("authorization", f"Bearer {KEY}")]
    data = b"" if body is None else json.dumps(body).encode()
    return function_url(HttpRequest(method, f"/v1/responses{path}", headers=headers, body=data))


def invocation(session: str, text: str) -> Event:
    """A request to the invocations channel."""
    headers = [("content-type", "application/json"), ("authorization", f"Bearer {KEY}")]
    body = json.dumps({"message": text, "session_id": session}).encode()
    return function_url(HttpRequest("POST", "/invocations", headers=headers, body=body))


class Mailroom:
    """The store of a function, seen from outside."""

    def __init__(self, state_dir: str) -> None:
        self.store: StateStore = open_store(f"{state_dir}/sessions")

    async def accept(self, origin: str, id: str, conversation: str, **fields: Any) -> None:
        """Accept a message without waking anybody, as a process does that ends at once."""
        kept = StoredConversations(self.store, limits())
        body = message(origin, id, conversation, **fields)
        order = str(fields.get("sequence", 1))
        update = InboundUpdate("webhook", id, key_of(conversation), body, order)
        boxes = StoredMailboxes(kept)
        try:
            await boxes.accept(update, {})
        finally:
            await boxes.close()
            await kept.close()

    async def head(self, conversation: str) -> Head:
        found = await head_of(self.store, key_of(conversation))
        assert found is not None
        return found

    async def waiting(self, conversation: str) -> int:
        return len(await self.store.list(f"in/{conversation_path(key_of(conversation))}/"))

    async def set_aside(self, conversation: str) -> list[Any]:
        return await dead(self.store, key_of(conversation))

    async def leases(self) -> list[Lease | None]:
        """The leases of all conversations."""
        names = [name for name in await all_names(self.store, "k/") if name.endswith("/head")]
        heads = [await find_head(self.store, name.removeprefix("k/").removesuffix("/head")) for name in names]
        return [head[0].lease for head in heads if head is not None]

    async def check_at_rest(self, conversation: str, turns: int) -> None:
        """Make sure that a conversation had so many turns, that nothing waits in it, and that nobody holds it."""
        head = await self.head(conversation)
        assert (len(head.log), head.lease, head.ran, head.hold) == (turns, None, None, {})
        assert await self.waiting(conversation) == 0


@contextmanager
def taking_replies() -> Generator[tuple[str, list[dict[str, str]]]]:
    """Take replies in a thread: for functions that keep the test's own."""
    taken: list[dict[str, str]] = []
    with threaded(lambda body: taken.append(json.loads(body))) as origin:
        yield origin, taken


@contextmanager
def threaded(take: Callable[[bytes], None]) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # Of twenty conversations that reply at once none is turned away.

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
