"""`serve()` and `af-hosting serve`: in this process what is refused, in another what runs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError
from agent_framework_hosting.cli import main
from agent_framework_hosting.serve import is_loopback
from tests.support import served_app
from tests.support.channels import ProbeChannel
from tests.support.targets import ScriptedAgent

PATIENCE = 60.0


def host_of(*, authenticated: bool = True, **how: Any) -> AgentFrameworkHost:
    return AgentFrameworkHost(ScriptedAgent(), channels=[ProbeChannel(authenticated=authenticated)], **how)


def test_without_hypercorn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hypercorn", "hypercorn.config"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RuntimeError, match=re.escape("agent-framework-hosting[serve]")):
        host_of().serve()


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "", "192.0.2.7", "example.org"])
def test_an_open_channel_is_refused_on_what_others_can_reach(bind: str) -> None:
    with pytest.raises(ConfigurationError, match=r"'probe' is open.*auth=.*allow_anonymous=True"):
        host_of(authenticated=False).serve(host=bind, port=0)


@pytest.mark.parametrize("name", ["bind", "insecure_bind", "quic_bind", "keep_alive", "_log"])
def test_settings_that_are_none_or_listen_elsewhere_are_refused(name: str) -> None:
    config: dict[str, Any] = {name: "0.0.0.0:1"}
    with pytest.raises(ConfigurationError, match=name):
        host_of().serve(port=0, **config)


def test_debug_is_refused_on_what_others_can_reach() -> None:
    with pytest.raises(ConfigurationError, match="debug=True"):
        host_of(debug=True).serve(host="0.0.0.0", port=0)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x", False)],
)
def test_loopback_is_what_only_this_machine_reaches(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_workers_need_state_that_they_can_share(tmp_path: Path) -> None:
    for state_dir in (None, "memory://", f"{tmp_path.as_uri()}?single_instance=true"):
        with pytest.raises(ConfigurationError, match="2 workers cannot share the state"):
            host_of(state_dir=state_dir).serve(port=0, workers=2)
    with pytest.raises(ConfigurationError, match="at least one"):
        host_of().serve(port=0, workers=0)


def test_a_taken_port_is_said_to_be_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG", os.devnull)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "tests.support.served_app:host", "--port", str(port)]) == 1
    assert f"af-hosting: Port {port} is taken on 127.0.0.1" in capsys.readouterr().err


def test_the_command_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{version('agent-framework-hosting')}\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nothing", "not of the form module:host"),
        (":host", "not of the form module:host"),
        ("./app:host", "not of the form module:host"),
        ("app.py:host", "'app.py' is a file: write app:host"),
        ("nowhere.at.all:host", "no module 'nowhere.at.all'"),
        ("json:host", "no 'host' in the module 'json'"),
        ("json:dumps", "json.dumps is function, not an AgentFrameworkHost"),
        ("broken_host:host", "no target"),
    ],
)
def test_the_command_says_what_it_cannot_serve(
    given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = "from agent_framework_hosting import AgentFrameworkHost\nhost = AgentFrameworkHost(None, channels=[])\n"
    (tmp_path / "broken_host.py").write_text(broken)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["serve", given]) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("af-hosting: ") and said in told.err


def test_an_import_that_fails_inside_the_module_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_host.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        main(["serve", "needy_host:host"])


@pytest.mark.parametrize(
    "arguments", [[], ["serve"], ["serve", "m:h", "--port", "x"], ["serve", "m:h", "--port", "70000"]]
)
def test_wrong_arguments_get_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "usage: af-hosting" in capsys.readouterr().err


class Server:
    """`af-hosting serve` in a process of its own."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.log = folder / "log"
        root = str(Path(served_app.__file__).parents[2])
        command = [str(Path(sys.executable).parent / "af-hosting"), "serve", f"{served_app.__name__}:host"]
        self.process = subprocess.Popen(
            [*command, "--port", "0", *options],
            env={**os.environ, "LOG": str(self.log), "PYTHONPATH": root, **environment},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.told: list[str] = []
        self.timer = threading.Timer(PATIENCE, self.kill)
        self.timer.start()

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)

    def address(self) -> str:
        """Read on until the server says where it is."""
        return self.until(r"Serving .* on (http://\S+);")[1]

    def until(self, pattern: str) -> re.Match[str]:
        """Read on until the server says something."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError("".join(self.told))

    def end(self) -> str:
        """Wait for the end, also of all workers, and give all that was told."""
        assert self.process.stderr is not None
        self.told += self.process.stderr.readlines()
        self.process.wait()
        return "".join(self.told)

    def started(self, workers: int) -> None:
        """Wait until that many have started up."""
        while self.process.poll() is None and (not self.log.exists() or self.steps().count("start") < workers):
            time.sleep(0.01)  # Nobody announces it but that file.

    def steps(self) -> list[str]:
        return [line.split()[0] for line in self.log.read_text().splitlines()]


@contextmanager
def serving(folder: Path, *options: str, **environment: str) -> Iterator[Server]:
    server = Server(folder, *options, **environment)
    try:
        yield server
    finally:
        server.timer.cancel()
        if server.process.poll() is None:
            server.kill()
            server.process.wait()
        assert server.process.stderr is not None
        server.process.stderr.close()


def get(address: str, key: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/probe/{key}", timeout=20) as reply:
        return json.load(reply)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_command_provisions_serves_and_ends_with_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    with serving(tmp_path, OPEN="1") as server:
        address = server.address()
        assert address.startswith("http://127.0.0.1:")
        assert [get(address, "a")["text"] for _ in range(2)] == ["1: x", "2: x"]
        with urllib.request.urlopen(f"{address}/readiness", timeout=20) as reply:
            assert reply.read() == b"ok"
        server.process.send_signal(number)
        told = server.end()
        assert (server.process.returncode, server.steps()) == (0, ["provision", "start", "stop"])
        assert "Channel 'probe' is open to everybody" in told and "Traceback" not in told


def test_workers_are_that_many_processes_on_one_state(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", STATE=str(tmp_path / "state")) as server:
        address = server.address()
        pids: set[int] = set()
        turns = 0
        while len(pids) < 2:
            turns += 1
            answer = get(address, "a")
            assert answer["text"] == f"{turns}: x"
            pids.add(answer["pid"])
            assert turns < 500
        assert server.process.pid not in pids
        server.process.send_signal(signal.SIGTERM)
        told = server.end()
        assert server.process.returncode == 0, told
        assert sorted(server.steps()) == ["provision", "start", "start", "stop", "stop"]
        assert {int(line.split()[1]) for line in server.log.read_text().splitlines() if "stop" in line} == pids


def test_a_worker_that_dies_ends_the_others(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", STATE=str(tmp_path / "state")) as server:
        os.kill(get(server.address(), "a")["pid"], signal.SIGKILL)
        told = server.end()
        assert server.process.returncode == 1
        assert "af-hosting: Worker processes failed: hosting-worker-" in told


def test_a_failed_start_up_is_told_in_a_line(tmp_path: Path) -> None:
    with serving(tmp_path, START_FAILS="Set BOT_TOKEN.") as server:
        told = server.end()
        assert server.process.returncode == 1
        assert told.endswith("af-hosting: Set BOT_TOKEN.\n")


def connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket, awaited: bytes) -> None:
    received = b""
    while awaited not in received:
        more = connection.recv(65_536)
        assert more, received
        received += more


def post(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = ["POST /invocations HTTP/1.1", "Host: test", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def a_turn(server: Server, connection: socket.socket) -> None:
    connection.sendall(post(b'{"message": "hang"}'))
    server.until("^hanging")


def a_stream(server: Server, connection: socket.socket) -> None:
    connection.sendall(post(b'{"message": "hang", "stream": true}'))
    receive(connection, b"data: begun")
    server.until("^hanging")


def half_a_body(server: Server, connection: socket.socket) -> None:
    connection.sendall(post(b"", "Expect: 100-continue", length=50))
    receive(connection, b"100")
    connection.sendall(b'{"message"')


def an_idle_connection(server: Server, connection: socket.socket) -> None:
    connection.sendall(b"GET /readiness HTTP/1.1\r\nHost: test\r\n\r\n")
    receive(connection, b"ok")


def nothing_yet(server: Server, connection: socket.socket) -> None:
    pass


HANGING = [a_turn, a_stream]


def name(use: Callable[..., None]) -> str:
    return use.__name__


@pytest.mark.parametrize("use", [*HANGING, half_a_body, an_idle_connection, nothing_yet], ids=name)
def test_an_open_connection_holds_the_end_up_for_the_grace_and_no_longer(use: Any, tmp_path: Path) -> None:
    with serving(tmp_path, GRACE="0.2") as server, connect(server.address()) as connection:
        use(server, connection)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        told = server.end()
        # The whole process ends in this time, of which the default grace alone would be more.
        assert time.monotonic() - began < 4.5, told
        steps = ["provision", "start", *(["ended"] if use in HANGING else []), "stop"]
        assert (server.process.returncode, server.steps()) == (0, steps), told


@pytest.mark.parametrize("use", HANGING, ids=name)
def test_a_second_signal_ends_open_requests_at_once(use: Any, tmp_path: Path) -> None:
    with serving(tmp_path, GRACE="50") as server, connect(server.address()) as connection:
        use(server, connection)
        began = time.monotonic()
        # Two of a kind might be seen as one.
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)
        told = server.end()
        assert time.monotonic() - began < 25, told
        assert (server.process.returncode, server.steps()) == (0, ["provision", "start", "ended", "stop"]), told


def test_a_target_that_swallows_every_cancellation_does_not_keep_the_server(tmp_path: Path) -> None:
    with serving(tmp_path, GRACE="0.2") as server, connect(server.address()) as connection:
        connection.sendall(post(b'{"message": "stay"}'))
        server.until("^hanging")
        server.process.send_signal(signal.SIGTERM)
        told = server.end()
        assert server.process.returncode == -signal.SIGTERM, told
        assert "do not end" in told


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_that_ends_within_the_grace_is_answered(workers: int, group: bool, tmp_path: Path) -> None:
    """Ctrl-C in a terminal, and systemd, tell the whole group at once: that is one signal all the same."""
    state = {"STATE": str(tmp_path / "state")}
    with (
        serving(tmp_path, "--workers", str(workers), GRACE="50", **state) as server,
        connect(server.address()) as connection,
    ):
        half_a_body(server, connection)
        server.started(workers)
        if group:
            os.killpg(server.process.pid, signal.SIGTERM)
        else:
            server.process.send_signal(signal.SIGTERM)
        if workers == 2:
            server.until("Stopping")
        connection.sendall(b': "x", "session_id": "s"'.ljust(39) + b"}")
        receive(connection, b'"1: x"')
        told = server.end()
        assert server.process.returncode == 0, told
        assert sorted(server.steps()) == ["provision", *["start"] * workers, *["stop"] * workers], told


def test_workers_end_with_open_requests_too(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--workers", "2", STATE=str(tmp_path / "state"), GRACE="0.2") as server,
        connect(server.address()) as connection,
    ):
        a_turn(server, connection)
        server.process.send_signal(signal.SIGTERM)
        told = server.end()
        assert server.process.returncode == 0, told
        steps = server.steps()
        assert "ended" in steps and steps.count("stop") == steps.count("start"), told


@pytest.mark.parametrize("open_request", [False, True])
def test_workers_end_when_their_parent_is_killed_and_leave_the_port(tmp_path: Path, open_request: bool) -> None:
    workers = ("--workers", "2")
    environment = {"STATE": str(tmp_path / "state"), "GRACE": "0.2"}
    with serving(tmp_path, *workers, **environment) as server:
        address = server.address()
        assert get(address, "a")["text"] == "1: x"
        with connect(address) as connection:
            if open_request:
                a_turn(server, connection)
            server.process.kill()
            told = server.end()
        assert server.process.returncode == -signal.SIGKILL, "it ended by itself, before its workers"
        steps = server.steps()
        assert steps.count("stop") == steps.count("start") > 0, told
    with serving(tmp_path, *workers, "--port", str(urlsplit(address).port), **environment) as server:
        assert server.address() == address
        assert get(address, "a")["text"] == "2: x"
