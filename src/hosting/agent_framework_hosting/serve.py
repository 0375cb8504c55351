"""Serves a host with Hypercorn, in one process or several."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from .errors import ConfigurationError, HostingError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from hypercorn.config import Config

    from .host import AgentFrameworkHost

logger = logging.getLogger("agent_framework.hosting")

_GRACE = 10.0


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

    if not is_loopback(bind):
        host.check_exposure(f"{bind}, which others can reach")
    check_workers(host, workers)
    asyncio.run(host.provision())
    with closing(listen(bind, port)) as listener:
        address = listener.getsockname()
        announce(f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}")
        settings = Config.from_mapping({"accesslog": None, "errorlog": "-", **config})
        if workers == 1:
            run_worker(host, settings, listener)
        else:
            run_workers(host, settings, listener, workers)


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
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    return socket.create_server((bind, port), family=family, backlog=100)


def run_worker(host: AgentFrameworkHost, settings: Config, listener: socket.socket) -> None:
    """Serve in this process until a signal.

    Raises:
        Exception: What start-up or shutdown raised.
    """
    from hypercorn import asyncio as server
    from hypercorn.utils import LifespanFailureError

    show_log()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    settings.bind = [f"fd://{os.dup(listener.fileno())}"]  # Hypercorn closes what it is given.
    try:
        asyncio.run(server.serve(cast("Any", host.app), settings))  # pyright: ignore[reportUnknownMemberType]
    except LifespanFailureError as error:
        # Starlette was handling the app's own exception when it reported the failure.
        raise error.__context__ or error from None


def run_workers(host: AgentFrameworkHost, settings: Config, listener: socket.socket, count: int) -> None:
    """Run worker processes on one socket until a signal, or until one of them ends."""
    import multiprocessing
    from multiprocessing.connection import wait

    context = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = [
        context.Process(target=run_worker, args=(host, settings, listener), name=f"hosting-worker-{number}")
        for number in range(count)
    ]

    def stop(*_: object) -> None:
        for process in processes:
            if process.is_alive():
                process.terminate()

    signals = (signal.SIGINT, signal.SIGTERM)
    # None may arrive between a fork and the handlers of parent and child: the other one would be left behind.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    for process in processes:
        process.start()
    for name in signals:
        signal.signal(name, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    wait([process.sentinel for process in processes])
    stop()
    for process in processes:
        process.join(_GRACE)
        if process.is_alive():
            process.kill()
            process.join()
    failed = [process.name for process in processes if process.exitcode not in (0, -signal.SIGTERM)]
    if failed:
        raise WorkersFailed(f"Worker processes failed: {', '.join(failed)}. Their log says why.")


def show_log() -> None:
    """Show the host's own lines on a terminal where nobody has set up logging."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("hypercorn.error").propagate = False  # It has a handler of its own.
