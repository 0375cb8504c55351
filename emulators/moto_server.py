"""moto's S3 and SQS on a loopback port: `python moto_server.py <port>`, until its standard input ends."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import create_backend_app  # pyright: ignore[reportMissingTypeStubs]
from werkzeug.serving import run_simple
from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


class OneAtATime:
    """An application for each service: moto's dispatcher looks for its modules on the disk at every request.

    Requests that came as a whole are answered one by one. moto looks at a condition first and writes then, so that two
    writers at once could both be right; with S3 one of them always loses.
    """

    def __init__(self) -> None:
        self._services = {name: create_backend_app(name) for name in ("s3", "sqs")}
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        # Only what goes to SQS names its operation in a header.
        service = self._services["sqs" if environ.get("HTTP_X_AMZ_TARGET", "").startswith("AmazonSQS.") else "s3"]
        with self._lock:
            answer = Response.from_app(service, environ, buffered=True)
        return answer(environ, start_response)


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    how = {"hostname": "127.0.0.1", "port": int(sys.argv[1]), "application": OneAtATime(), "threaded": True}
    threading.Thread(target=run_simple, kwargs=how, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
