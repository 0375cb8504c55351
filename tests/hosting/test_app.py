"""The app: routes, middleware, start-up and shutdown."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from agent_framework_hosting import AgentFrameworkHost, ChannelContribution, ConfigurationError, Provisioning
from agent_framework_hosting.lifespan import Lifespan, LifespanFailed
from tests.support.asgi import call
from tests.support.channels import ProbeChannel, request_of, serving, started, until
from tests.support.targets import ScriptedAgent, memory_workflow


def host_of(*channels: ProbeChannel, **how: Any) -> AgentFrameworkHost:
    return AgentFrameworkHost(ScriptedAgent(), channels=channels, **how)


async def where(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.url.path} {dict(request.path_params)}")


async def get(app: ASGIApp, path: str) -> tuple[int, str]:
    reply = await call(app, "GET", path)
    return reply.status, reply.body.decode()


ROUTES = [Route("/", where), Route("/deep/{part}", where), Mount("/sub", routes=[Route("/leaf", where)])]


@pytest.mark.parametrize("path", ["/probe", "/a/b", "/{tenant}/probe"])
async def test_routes_are_mounted_below_the_channels_path(path: str) -> None:
    app = host_of(ProbeChannel(path=path, routes=ROUTES)).app
    at = path.replace("{tenant}", "acme")
    params: dict[str, str] = {"tenant": "acme"} if "tenant" in path else {}
    assert await get(app, at) == (200, f"{at} {params}")
    assert await get(app, f"{at}/deep/x") == (200, f"{at}/deep/x { ({**params, 'part': 'x'}) }")
    assert await get(app, f"{at}/sub/leaf") == (200, f"{at}/sub/leaf {params}")
    assert (await get(app, "/"))[0] == 404


async def test_an_empty_path_is_the_root() -> None:
    app = host_of(ProbeChannel(path="", routes=ROUTES)).app
    assert await get(app, "/") == (200, "/ {}")
    assert await get(app, "/deep/x") == (200, "/deep/x {'part': 'x'}")
    assert await get(app, "/sub/leaf") == (200, "/sub/leaf {}")


@pytest.mark.parametrize("path", ["/probe", "/{tenant}/probe", ""])
async def test_a_mount_at_the_root_answers_at_the_path_itself(path: str) -> None:
    app = host_of(ProbeChannel(path=path, routes=[Mount("/", routes=ROUTES)])).app
    at = path.replace("{tenant}", "acme")
    assert (await get(app, at or "/"))[0] == 200
    assert (await get(app, f"{at}/deep/x"))[0] == 200
    assert (await get(app, f"{at}er"))[0] == 404


async def websocket_texts(app: ASGIApp, path: str) -> list[str]:
    incoming: list[Message] = [{"type": "websocket.connect"}]
    outgoing: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Message) -> None:
        outgoing.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "subprotocols": [],
        "state": {},
    }
    await app(scope, receive, send)
    return [message["text"] for message in outgoing if message["type"] == "websocket.send"]


@pytest.mark.parametrize(("path", "at"), [("/probe", "/probe"), ("", "/"), ("/{tenant}/ws", "/acme/ws")])
async def test_websocket_routes_are_mounted_too(path: str, at: str) -> None:
    async def tell(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(f"{socket.url.path} {dict(socket.path_params)}")
        await socket.close()

    app = host_of(ProbeChannel(path=path, routes=[WebSocketRoute("/", tell), WebSocketRoute("/x/{y}", tell)])).app
    params: dict[str, str] = {"tenant": "acme"} if "tenant" in path else {}
    assert await websocket_texts(app, at) == [f"{at} {params}"]
    below = f"{at.rstrip('/')}/x/1"
    assert await websocket_texts(app, below) == [f"{below} { ({**params, 'y': '1'}) }"]


async def test_root_routes_live_beside_the_path() -> None:
    app = host_of(ProbeChannel(root_routes=[Route("/.well-known/probe", where)])).app
    assert (await get(app, "/.well-known/probe"))[0] == 200
    assert (await get(app, "/probe/.well-known/probe"))[0] == 404


async def test_a_route_may_be_given_to_two_channels() -> None:
    route = Route("/", where)
    app = host_of(ProbeChannel("a", "/a", routes=[route]), ProbeChannel("b", "/b", routes=[route])).app
    assert [await get(app, path) for path in ("/a", "/b")] == [(200, "/a {}"), (200, "/b {}")]
    assert route.path == "/"


def test_routes_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="Route, WebSocketRoute or Mount, not Host"):
        _ = host_of(ProbeChannel(routes=[Host("example.org", PlainTextResponse("x"))])).app


class Marking:
    """Adds a header."""

    def __init__(self, app: ASGIApp, mark: str) -> None:
        self.app = app
        self.mark = mark.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"mark", self.mark)]
            await send(message)

        await self.app(scope, receive, marked)


async def test_a_channels_middleware_wraps_only_its_routes_in_the_order_given() -> None:
    a = ProbeChannel(
        "a",
        "/a",
        routes=[*ROUTES],
        root_routes=[Route("/a-root", where)],
        middleware=[Middleware(Marking, "outer"), Middleware(Marking, "inner")],
    )
    app = host_of(a, ProbeChannel("b", "/b", routes=ROUTES), middleware=[Middleware(Marking, "all")]).app

    async def marks(path: str) -> list[bytes]:
        return [value for name, value in (await call(app, "GET", path)).raw_headers if name == b"mark"]

    for path in ("/a", "/a/deep/x", "/a/sub/leaf", "/a-root"):
        assert await marks(path) == [b"inner", b"outer", b"all"]
    for path in ("/b", "/b/sub/leaf", "/readiness", "/nowhere"):
        assert await marks(path) == [b"all"]


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ([ProbeChannel("a", "/x"), ProbeChannel("a", "/y")], "name 'a'"),
        ([ProbeChannel("a", "/x"), ProbeChannel("b", "/x")], "path '/x'"),
        ([ProbeChannel("a", ""), ProbeChannel("b", "")], "path ''"),
        ([ProbeChannel("a", "x")], "start with /"),
        ([ProbeChannel("a", "/x/")], "not end with it"),
        ([ProbeChannel("a", "/")], "must be empty"),
    ],
)
def test_channels_that_get_in_each_others_way_are_refused(channels: list[ProbeChannel], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        host_of(*channels)


@pytest.mark.parametrize(
    "name", ["a/b", "A", "", "..", ".", "a b", "1a", "é", "a\n", "a" * 101, "d/../k"], ids=lambda name: repr(name[:9])
)
def test_a_name_that_cannot_be_part_of_a_place_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"channel name {re.escape(repr(name))} must be"):
        host_of(ProbeChannel(name))


@pytest.mark.parametrize("name", ["a", "a" * 100, "a.b_c-1", "z.."])
def test_a_plain_name_is_taken(name: str) -> None:
    assert host_of(ProbeChannel(name)).app


class Nameless:
    path = "/nameless"

    def contribute(self, context: Any) -> ChannelContribution:
        return ChannelContribution()


class Whole(Nameless):
    name = "whole"


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ([Whole], r"class '.*Whole'> is no channel"),
        ([ProbeChannel], r"ProbeChannel'> is no channel: one has a name, a path and contribute\(context\)"),
        ([ProbeChannel("a", "/a"), Nameless()], "Nameless object .* is no channel"),
        ([None], "None is no channel"),
        (["invocations"], "'invocations' is no channel"),
        ("invocations", "'i' is no channel"),
        (ProbeChannel(), r"channels=\[…\], also for one"),
        (iter([ProbeChannel()]), r"channels=\[…\]"),
        (None, r"channels=\[…\]"),
    ],
    ids=["class", "class-of-values", "nameless", "None", "text", "bare-text", "single", "iterator", "nothing"],
)
def test_what_is_no_list_of_channels_is_refused(channels: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        AgentFrameworkHost(ScriptedAgent(), channels=channels)


@pytest.mark.parametrize("path", ["", "/readiness"])
async def test_readiness_comes_before_every_channel(path: str) -> None:
    async def shadow(request: Request) -> PlainTextResponse:
        return PlainTextResponse("shadow")

    everything = [Route("/", shadow), Route("/{rest:path}", shadow)]
    app = host_of(ProbeChannel(path=path, routes=everything, root_routes=everything)).app
    assert await get(app, "/readiness") == (200, "ok")
    assert await get(app, "/other") == (200, "shadow")


def test_the_app_and_the_contributions_are_made_once() -> None:
    made: list[str] = []

    class Counting(ProbeChannel):
        def contribute(self, context: Any) -> ChannelContribution:
            made.append(self.name)
            return super().contribute(context)

    host = host_of(Counting())
    assert made == []
    assert host.app is host.app
    host.check_exposure("here")
    assert made == ["probe"]


def test_state_in_memory_is_warned_of_where_others_can_reach_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host_of(ProbeChannel(), state_dir=tmp_path).check_exposure("the moon")
    assert not caplog.records
    host_of(ProbeChannel()).check_exposure("the moon")
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert re.search(r"kept in memory: on the moon .* state_dir", warning.getMessage())


def step(events: list[str], name: str, failure: Exception | None = None) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        events.append(name)
        if failure is not None:
            raise failure

    run.__qualname__ = name
    return run


async def test_start_up_and_shutdown_run_every_callback() -> None:
    events: list[str] = []
    a = ProbeChannel("a", "/a", on_startup=[step(events, "a1"), step(events, "a2")], on_shutdown=[step(events, "-a")])
    b = ProbeChannel("b", "/b", on_startup=[step(events, "b1")], on_shutdown=[step(events, "-b")])
    async with started(host_of(a, b)):
        assert events == ["a1", "a2", "b1"]
    assert events == ["a1", "a2", "b1", "-a", "-b"]


async def test_a_failed_start_up_runs_on_logs_all_and_raises_the_first(caplog: pytest.LogCaptureFixture) -> None:
    events: list[str] = []
    channel = ProbeChannel(
        on_startup=[
            step(events, "one", ValueError("first")),
            step(events, "two", KeyError("second")),
            step(events, "three"),
        ],
        on_shutdown=[step(events, "close", OSError("third"))],
    )
    lifespan = Lifespan(host_of(channel).app)
    with pytest.raises(ValueError, match="first"):
        await lifespan.start()
    assert events == ["one", "two", "three", "close"]
    for name, failure in (("one", "first"), ("two", "second"), ("close", "third")):
        assert f"A step of start-up or shutdown failed: {name}" in caplog.text and failure in caplog.text
    with pytest.raises(ValueError, match="first"):
        await lifespan.start()
    await lifespan.stop()


async def test_a_failed_shutdown_runs_on_logs_all_and_raises_the_first(caplog: pytest.LogCaptureFixture) -> None:
    events: list[str] = []
    channel = ProbeChannel(
        on_shutdown=[step(events, "one", ValueError("first")), step(events, "two", KeyError("x")), step(events, "3")]
    )
    lifespan = Lifespan(host_of(channel).app)
    await lifespan.start()
    with pytest.raises(ValueError, match="first"):
        await lifespan.stop()
    assert events == ["one", "two", "3"]
    assert caplog.text.count("A step of") == 2


async def test_a_state_dir_that_cannot_be_used_fails_the_start_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    events: list[str] = []
    host = host_of(ProbeChannel(on_shutdown=[step(events, "close")]), state_dir=tmp_path / "file")
    with pytest.raises(Exception, match=r"file"):
        await Lifespan(host.app).start()
    assert events == ["close"]


async def test_concurrent_starts_are_one() -> None:
    events: list[str] = []
    gate = asyncio.Event()

    async def wait() -> None:
        events.append("begun")
        await gate.wait()

    lifespan = Lifespan(host_of(ProbeChannel(on_startup=[wait], on_shutdown=[step(events, "ended")])).app)
    starts = [asyncio.create_task(lifespan.start()) for _ in range(5)]
    await until(lambda: bool(events))
    starts[0].cancel()
    await asyncio.wait([starts[0]])
    assert not any(start.done() for start in starts[1:])
    gate.set()
    await asyncio.gather(*starts[1:])
    await asyncio.gather(*[lifespan.stop() for _ in range(3)])
    assert events == ["begun", "ended"]


async def test_stopping_before_or_during_start_up_is_no_error() -> None:
    await Lifespan(host_of(ProbeChannel()).app).stop()
    hung = asyncio.Event()

    async def wait() -> None:
        hung.set()
        await asyncio.Event().wait()

    lifespan = Lifespan(host_of(ProbeChannel(on_startup=[wait])).app)
    starting = asyncio.create_task(lifespan.start())
    await hung.wait()
    await lifespan.stop()
    with pytest.raises(LifespanFailed):
        await starting


async def test_the_start_up_line_tells_what_is_served(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    channels = [ProbeChannel("a", "/a"), ProbeChannel("b", "")]
    with caplog.at_level(logging.INFO, "agent_framework.hosting"):
        async with started(host_of(*channels, state_dir=f"file://user:s3cret@localhost{tmp_path}")):
            pass
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Serving")]
    assert line == f"Serving agent scripted; channels: a at /a, b at /; state: directory {tmp_path}"
    assert "s3cret" not in caplog.text


async def test_the_start_up_line_names_workflows_factories_and_memory(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "agent_framework.hosting"):
        async with serving(memory_workflow):
            pass
    assert "Serving workflow memory; channels: probe at /probe; state: memory" in caplog.text


async def test_without_start_up_a_turn_says_what_is_missing() -> None:
    channel = ProbeChannel()
    host = AgentFrameworkHost(ScriptedAgent, channels=[channel])
    assert (await get(host.app, "/readiness"))[0] == 200
    with pytest.raises(ConfigurationError, match="lifespan"):
        await channel.context.run(request_of("a", "x"))
    with pytest.raises(ConfigurationError, match="lifespan"):
        await channel.context.run_stream(request_of("a", "x"))
    with pytest.raises(ConfigurationError, match="start-up"):
        _ = channel.context.target


async def test_an_open_channel_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with started(host_of(ProbeChannel("a", "/a", authenticated=False), ProbeChannel("b", "/b"))):
        pass
    assert "Channel 'a' is open" in caplog.text and "Channel 'b'" not in caplog.text


async def test_provisioning_collects_what_was_done() -> None:
    async def register(provisioning: Provisioning) -> None:
        provisioning.done(f"webhook {'would be ' if provisioning.dry_run else ''}set")

    async def fail(provisioning: Provisioning) -> None:
        raise ValueError("no such bot")

    host = host_of(ProbeChannel("a", "/a", on_provision=[register]), ProbeChannel("b", "/b", on_provision=[register]))
    assert await host.provision() == ["webhook set"] * 2
    assert await host.provision(dry_run=True) == ["webhook would be set"] * 2
    with pytest.raises(ValueError, match="no such bot"):
        await host_of(ProbeChannel(on_provision=[fail, register])).provision()


async def test_channels_documents_are_apart() -> None:
    a, b = ProbeChannel("a", "/a"), ProbeChannel("b", "/b")
    async with started(host_of(a, b)):
        await a.context.documents.put("x", b"of a")
        assert await b.context.documents.get("x") is None
        assert list(await a.context.documents.list("")) == ["x"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"state_dir": 5}, "state_dir is int"),
        ({"state_dir": {"sessions": []}}, r"state_dir\['sessions'\] is list"),
        ({"checkpoint_location": 5}, "checkpoint_location is int"),
    ],
)
def test_a_place_that_is_none_is_refused_by_the_settings_name(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        AgentFrameworkHost(lambda: None, channels=[], **setting)


def test_state_dir_knows_its_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown keys"):
        host_of(state_dir={"session": tmp_path})


def test_limits_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="give HostLimits"):
        host_of(ProbeChannel(), limits={"body_bytes": 1})
