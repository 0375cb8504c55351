"""moto's S3, SQS and SSM on a loopback port: `python moto_server.py <port>`, until its standard input ends."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import sys
import threading
from asyncio import StreamReader, StreamWriter
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from moto.moto_server.werkzeug_app import create_backend_app  # pyright: ignore[reportMissingTypeStubs]
from werkzeug.wrappers import Response

LARGEST_HEAD = 65536
# What the gateway interface names without HTTP_ before it (PEP 3333).
BARE = {"CONTENT_TYPE", "CONTENT_LENGTH"}


# What goes to these names its operation in a header.
TARGETS: dict[str, Literal["sqs", "ssm"]] = {"AmazonSQS": "sqs", "AmazonSSM": "ssm"}


class Server:
    """An application for each service: moto's dispatcher looks for its modules on the disk at every request.

    Requests that came as a whole are answered one by one, on one thread. moto looks at a condition first and writes
    then, so that two writers at once could both be right; with S3 one of them always loses. Connections are kept, as
    by S3.
    """

    def __init__(self) -> None:
        self._services: dict[str, Any] = {}

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", port, limit=LARGEST_HEAD)
        # What is there now stays, and need not be looked at again and again.
        gc.collect()
        gc.freeze()
        await server.serve_forever()

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while True:
                environ = parsed(await reader.readuntil(b"\r\n\r\n"))
                if environ.get("HTTP_EXPECT", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(environ.get("CONTENT_LENGTH") or 0))
                writer.write(self._answer(environ, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client has gone.
        finally:
            writer.close()

    def _service(self, name: Literal["s3", "sqs", "ssm"]) -> Any:
        if name not in self._services:
            self._services[name] = service = create_backend_app(name)
            # Of a debugged one each request is looked at for what a developer may have got wrong.
            service.debug = False
        return self._services[name]

    def _answer(self, environ: dict[str, Any], body: bytes) -> bytes:
        if "HTTP_TRANSFER_ENCODING" in environ:
            answer = Response("The length must be given.", HTTPStatus.LENGTH_REQUIRED)
        else:
            environ["wsgi.input"] = io.BytesIO(body)
            target = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")[0]
            service = self._service(TARGETS.get(target, "s3"))
            answer = Response.from_app(service, environ, buffered=True)
        parts, status, headers = answer.get_wsgi_response(environ)
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        return b"".join([*(f"{line}\r\n".encode("latin-1") for line in lines), b"\r\n", *parts])


def parsed(head: bytes) -> dict[str, Any]:
    """Read the head of a request into what an application of the gateway interface is called with (PEP 3333)."""
    line, *fields = head[:-4].decode("latin-1").split("\r\n")
    method, target, protocol = line.split(" ")
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": target,
        "RAW_URI": target,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": sys.argv[1],
        "SERVER_PROTOCOL": protocol,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for field in fields:
        name, _, value = field.partition(":")
        name = name.upper().replace("-", "_")
        name = name if name in BARE else f"HTTP_{name}"
        value = value.strip()
        environ[name] = f"{environ[name]},{value}" if name in environ else value
    return environ


def end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_input, daemon=True).start()
    asyncio.run(Server().serve(int(sys.argv[1])))
