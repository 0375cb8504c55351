"""A Responses channel behind real HTTP, and the official clients of it; everything it tells is checked."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import msgspec
from hypercorn.asyncio import serve
from hypercorn.config import Config
from openai import AsyncOpenAI, OpenAI
from openai.types.conversations import Conversation
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_framework_hosting import ChannelContext
from agent_framework_hosting.host_updates import HostUpdates
from agent_framework_hosting.limits import DEFAULT_LIMITS, HostLimits
from agent_framework_hosting.routing import build_app
from agent_framework_hosting.serve import Requests, listen
from agent_framework_hosting.state.deletion import delete_conversation
from agent_framework_hosting.state.mailbox import StoredMailboxes
from agent_framework_hosting.state.store import StateStore
from agent_framework_hosting.state.stored import StoredConversations
from agent_framework_hosting.targets import TargetSource
from agent_framework_hosting.turns import Turns
from agent_framework_hosting_responses import ResponsesChannel
from tests.support.open_responses import check_event, check_item, check_response, check_stream
from tests.support.sse import parse_events

PATIENCE = 20.0
OPS = "ops-key-0123456789"
WEB = "web-key-0123456789"
AUTH = {"ops": OPS, "web": WEB}
ERROR_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


@dataclass
class Exchange:
    """One answer of the server; `body` is whole when `over`."""

    method: str
    path: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    over: bool = False


class Checked:
    """An ASGI app that notes its answers, and holds each against the Open Responses document.

    A client may repeat a refused request at once: `retry-after-ms` is put beside `retry-after`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.exchanges: list[Exchange] = []
        self.faults: list[BaseException] = []
        self.begun = threading.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope["method"], scope["path"])

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
                if "retry-after" in exchange.headers:
                    message["headers"] = [*message["headers"], (b"retry-after-ms", b"5")]
                with self.begun:
                    self.exchanges.append(exchange)
                    self.begun.notify_all()
            else:
                exchange.body += message.get("body", b"")
                exchange.over = not message.get("more_body", False)
                if exchange.over:
                    self.check(exchange)
            await send(message)

        await self.app(scope, receive, note)

    def check(self, exchange: Exchange) -> None:
        try:
            check_exchange(exchange)
        except Exception as fault:
            fault.add_note(f"in {exchange}")
            self.faults.append(fault)

    def until(self, condition: Callable[[list[Exchange]], bool]) -> None:
        """Wait until the answers that have begun fulfil a condition."""
        with self.begun:
            assert self.begun.wait_for(lambda: condition(self.exchanges), PATIENCE)


def check_exchange(exchange: Exchange) -> None:
    """Check an answer.

    Raises:
        Exception: It is not what the API gives.
    """
    assert exchange.headers["x-request-id"].startswith("req_")
    if exchange.headers["content-type"].startswith("text/event-stream"):
        check_events([msgspec.json.decode(event.data) for event in parse_events(exchange.body)])
        return
    assert exchange.headers["content-type"] == "application/json"
    body = msgspec.json.decode(exchange.body)
    if exchange.status >= 400:
        check_error(exchange.status, body)
    elif body["object"] == "response" and not body.get("deleted"):
        check_response(body)
    elif body["object"] == "conversation":
        Conversation.model_validate(body, strict=True)
    elif body["object"] == "list" and exchange.path.endswith("/input_items"):
        assert body.keys() == {"object", "data", "first_id", "last_id", "has_more"}
        for item in body["data"]:
            check_item(item)
    else:
        assert body["object"] in ("response", "conversation.deleted", "list", "model"), body


def check_events(events: list[Any]) -> None:
    if events and events[0]["sequence_number"] == 0:
        check_stream(events)
        return
    for number, event in enumerate(events):
        check_event(event)
        assert event["sequence_number"] == events[0]["sequence_number"] + number


def check_error(status: int, body: Any) -> None:
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"] and isinstance(error["message"], str)
    assert error["code"] and isinstance(error["code"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["type"] == ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


class ResponsesServer:
    """Serves an app with Hypercorn in a thread, on a free port of loopback; `prefix` stands before `/responses`.

    Leaving it ends the requests that are still open, and raises what was wrong with an answer.
    """

    def __init__(self, app: ASGIApp, prefix: str = "/v1") -> None:
        self.checked = Checked(app)
        self.prefix = prefix
        self._requests = Requests(cast("Any", self.checked))
        self._listener = listen("127.0.0.1", 0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="responses-server")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.set)
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive()
        faults = [fault for fault in (self._failure, *self.checked.faults) if fault is not None]
        if error is None and faults:
            raise faults[0]

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    @property
    def statuses(self) -> list[int]:
        return [exchange.status for exchange in self.checked.exchanges]

    def client(self, key: str = OPS, *, max_retries: int = 0) -> OpenAI:
        return OpenAI(base_url=self.url, api_key=key, max_retries=max_retries, timeout=PATIENCE)

    def async_client(self, key: str = OPS, *, max_retries: int = 0) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.url, api_key=key, max_retries=max_retries, timeout=PATIENCE)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        config = Config()
        config.bind = [f"fd://{os.dup(self._listener.fileno())}"]
        config.accesslog, config.errorlog = None, logging.getLogger("hypercorn.error")
        config.graceful_timeout = 0.1
        await serve(cast("Any", self._requests), config, shutdown_trigger=self._trigger)

    async def _trigger(self) -> None:
        await self._told.wait()
        self._requests.cancel()


def store_app(
    target: Any,
    store: StateStore,
    channel: ResponsesChannel,
    limits: HostLimits = DEFAULT_LIMITS,
    *,
    working: bool = False,
) -> Starlette:
    """Serve one channel on a store as a host does; `working` on updates as well."""
    source = TargetSource(target)
    conversations = StoredConversations(store, limits)
    turns = Turns(conversations, turn_timeout=limits.turn_timeout.total_seconds())

    async def delete(key: str) -> bool:
        return await delete_conversation([store], key)

    async def start() -> None:
        await source.start()
        turns.runner = await source.runner()

    async def stop() -> None:
        turns.runner = None
        await conversations.close()

    context = ChannelContext(channel.name, source, turns, store, limits, updates=lambda: updates, delete=delete)
    contribution = channel.contribute(context)
    assert contribution.on_update is not None
    updates = HostUpdates(StoredMailboxes(conversations), {channel.name: contribution.on_update}, None, store=store)

    async def open_inbox() -> None:
        if working:
            updates.start()

    async def close_inbox() -> None:
        if working:
            await updates.stop()

    return build_app(
        [(channel, contribution)],
        middleware=[],
        debug=False,
        start=start,
        stop=stop,
        open_inbox=open_inbox,
        close_inbox=close_inbox,
    )


@asynccontextmanager
async def running(app: Starlette) -> AsyncIterator[Starlette]:
    """Run an app's lifespan around requests in this process."""
    async with app.router.lifespan_context(app):
        yield app
