"""Serves a host with Hypercorn, in one process or several."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Callable, Container, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from .errors import ConfigurationError, HostingError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from hypercorn.config import Config
    from starlette.types import ASGIApp, Receive, Scope, Send

    from .host import AgentFrameworkHost

logger = logging.getLogger("agent_framework.hosting")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ELSEWHERE = frozenset({"bind", "insecure_bind", "quic_bind"})
_GRACE = 10.0
_CANCELLATIONS, _PAUSE = 10, 0.5
_TOGETHER = 1.0


class MissingExtra(HostingError, RuntimeError):
    """A package that an extra installs is not there."""


class WorkersFailed(HostingError, RuntimeError):
    """A worker process ended by itself."""


def serve(
    host: AgentFrameworkHost,
    *,
    bind: str,
    port: int,
    workers: int,
    config: Mapping[str, Any],
    announce: Callable[[str], None],
) -> None:
    """Provision, then serve until interrupted. `port` 0 takes a free one; `announce` is told the address."""
    try:
        from hypercorn.config import Config
    except ImportError:
        raise MissingExtra(
            "serve() needs Hypercorn: install agent-framework-hosting[serve], or give host.app to an ASGI server."
        ) from None

    check_settings(config, known=vars(Config()) | vars(Config))
    if not is_loopback(bind):
        host.check_exposure(f"{bind}, which others can reach")
    check_workers(host, workers)
    asyncio.run(host.provision())
    with closing(listen(bind, port)) as listener:
        address = listener.getsockname()
        announce(f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}")
        # Hypercorn's lines go the way of all others.
        errors = logging.getLogger("hypercorn.error")
        settings = Config.from_mapping({"accesslog": None, "errorlog": errors, "graceful_timeout": 5.0, **config})
        if workers == 1:
            run_worker(host, settings, listener)
        else:
            run_workers(host, settings, listener, workers)


def check_settings(config: Mapping[str, Any], known: Container[str]) -> None:
    """Refuse settings that Hypercorn does not have, and those that would listen elsewhere than was asked for.

    Raises:
        ConfigurationError: Names the setting.
    """
    for name in config:
        if name in ELSEWHERE:
            raise ConfigurationError(
                f"serve() listens on host and port alone, not on what {name} says. For more addresses give host.app to "
                "a server of your own."
            )
        if name not in known or name.startswith("_"):
            raise ConfigurationError(f"serve() has no setting {name!r}, and neither has Hypercorn.")


def check_workers(host: AgentFrameworkHost, workers: int) -> None:
    """Refuse a number of processes that cannot serve one set of conversations.

    Raises:
        ConfigurationError: Fewer than one, or several with state that only one process can reach.
    """
    import multiprocessing

    if workers < 1:
        raise ConfigurationError(f"workers is {workers}; there must be at least one.")
    if workers == 1:
        return
    if not host.state.durable or host.state.single_instance:
        raise ConfigurationError(
            f"{workers} workers cannot share the state of this host ({host.state.description}). Give state_dir a "
            "directory that several processes may use, or serve with workers=1."
        )
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigurationError("workers > 1 needs a system with fork(). Serve with workers=1 in more processes.")


def is_loopback(bind: str) -> bool:
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


def listen(bind: str, port: int) -> socket.socket:
    """Open the socket.

    Raises:
        ConfigurationError: `bind` is no address, or the port is taken.
        OSError: It cannot be used for another reason.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server((bind, port), family=family, backlog=100)
    except socket.gaierror:
        raise ConfigurationError(f"{bind!r} is no address of this machine. The port is given by itself.") from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise ConfigurationError(f"Port {port} is taken on {bind}: stop what uses it, or choose another one.") from None


def run_worker(
    host: AgentFrameworkHost, settings: Config, listener: socket.socket, parent: Connection | None = None
) -> None:
    """Serve in this process until a signal, or until `parent` is closed at its other end.

    Raises:
        Exception: What start-up or shutdown raised.
    """
    from hypercorn.utils import LifespanFailureError

    show_log()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    settings.bind = [f"fd://{os.dup(listener.fileno())}"]  # Hypercorn closes what it is given.
    try:
        asyncio.run(serve_until_stopped(host, settings, parent))
    except LifespanFailureError as error:
        # Starlette was handling the app's own exception when it reported the failure.
        raise error.__context__ or error from None


async def serve_until_stopped(host: AgentFrameworkHost, settings: Config, parent: Connection | None) -> None:
    """Serve; when told to stop give requests `graceful_timeout` seconds to end, then cancel them."""
    from hypercorn import asyncio as server

    loop = asyncio.get_running_loop()
    told, again = asyncio.Event(), asyncio.Event()

    by_parent: list[float] = []

    def stop_with_parent() -> None:
        if parent is not None:
            loop.remove_reader(parent.fileno())
        by_parent.append(loop.time())
        told.set()

    def stop() -> None:
        # Ctrl-C in a terminal, or a supervisor, tells a worker as well as its parent: that is one signal.
        if by_parent and loop.time() - by_parent[0] < _TOGETHER:
            by_parent.clear()
        else:
            (again if told.is_set() else told).set()

    for name in SIGNALS:
        loop.add_signal_handler(name, stop)
    if parent is not None:
        loop.add_reader(parent.fileno(), stop_with_parent)
    requests = Requests(host.app)

    async def end_requests() -> None:
        await told.wait()
        if parent is not None:
            loop.remove_reader(parent.fileno())
        if requests.count:
            logger.info(
                "Stopping: open requests (%d) have %g s to end; a second signal ends them at once.",
                requests.count,
                settings.graceful_timeout,
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.graceful_timeout):
                await again.wait()
        # Hypercorn waits for open connections without a bound, and a target may swallow what it is told.
        for _ in range(_CANCELLATIONS):
            requests.cancel()
            await asyncio.sleep(_PAUSE)
            for name in SIGNALS:
                loop.remove_signal_handler(name)  # From now on a signal ends the process at once.
        if requests.count:
            logger.error(
                "Requests (%d) do not end, however often they are cancelled: the process ends.", requests.count
            )
            signal.raise_signal(signal.SIGTERM)

    ending = asyncio.create_task(end_requests())
    try:
        app = cast("Any", requests)
        await server.serve(app, settings, shutdown_trigger=told.wait)  # pyright: ignore[reportUnknownMemberType]
    finally:
        ending.cancel()
        await asyncio.wait([ending])


class Requests:
    """An ASGI app, with the tasks of the requests that are being served."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[Any]] = set()
        self._over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] == "lifespan" or task is None:
            await self._app(scope, receive, send)
            return
        self._tasks.add(task)
        try:
            if self._over:
                raise asyncio.CancelledError
            await self._app(scope, receive, send)
        finally:
            self._tasks.discard(task)

    @property
    def count(self) -> int:
        return len(self._tasks)

    def cancel(self) -> None:
        """Cancel the requests of now and of later."""
        self._over = True
        for task in self._tasks:
            task.cancel()


def run_workers(host: AgentFrameworkHost, settings: Config, listener: socket.socket, count: int) -> None:
    """Run worker processes on one socket until a signal, or until one of them ends."""
    import multiprocessing
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("fork")
    # Closed with this process, however it ends: no worker goes on without it.
    watched, held = context.Pipe(duplex=False)
    processes: list[BaseProcess] = [
        context.Process(
            target=run_child, args=(host, settings, listener, watched, held), name=f"hosting-worker-{number}"
        )
        for number in range(count)
    ]

    def stop(*_: object) -> None:
        if not held.closed:
            held.close()  # Tells all of them. A signal to the group has told them already: it counts once.
            return
        for process in processes:
            if process.is_alive():
                process.terminate()

    # None may arrive between a fork and the handlers of parent and child: the other one would be left behind.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for process in processes:
        process.start()
    for name in SIGNALS:
        signal.signal(name, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    wait([process.sentinel for process in processes])
    held.close()
    for process in processes:
        process.join(settings.graceful_timeout + _CANCELLATIONS * _PAUSE + _GRACE)
        if process.is_alive():
            process.kill()
            process.join()
    failed = [process.name for process in processes if process.exitcode not in (0, -signal.SIGTERM)]
    if failed:
        raise WorkersFailed(f"Worker processes failed: {', '.join(failed)}. Their log says why.")


def run_child(
    host: AgentFrameworkHost, settings: Config, listener: socket.socket, watched: Connection, held: Connection
) -> None:
    held.close()  # The parent's end: it must be the only one.
    run_worker(host, settings, listener, watched)


def show_log() -> None:
    """Show the host's own lines, and warnings of others, where nobody has set up logging."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("agent_framework.hosting").setLevel(logging.INFO)
