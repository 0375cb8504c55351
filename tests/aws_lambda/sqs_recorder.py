"""A service that takes what is sent to SQS, and tells what it was."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CREDENTIALS = "/credentials"
"""Where a container gets its credentials: `key-1`, `key-2` and so on, in the order in which they are asked for."""


@dataclass
class Recorder:
    """What was sent, by whom (`<key>/<day>/<region>/…`), and how often there were credentials to fetch."""

    port: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    signers: list[str] = field(default_factory=list)
    fetched: int = 0
    refusal: str | None = None
    silence: threading.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def clear(self) -> None:
        self.messages.clear()
        self.signers.clear()
        self.refusal = self.silence = None

    def answer(self, path: str, body: bytes, authorization: str) -> tuple[int, dict[str, Any]]:
        if path == CREDENTIALS:
            self.fetched += 1
            keys = {"AccessKeyId": f"key-{self.fetched}", "SecretAccessKey": "secret", "Token": "token"}
            return 200, {**keys, "Expiration": "2099-01-01T00:00:00Z"}
        if (silence := self.silence) is not None:
            silence.wait()
            return 503, {}
        if self.refusal is not None:
            return 403, {"__type": self.refusal, "message": f"you signed {authorization} {body.decode()}"}
        self.messages.append(json.loads(body))
        self.signers.append(authorization.partition("Credential=")[2].partition(",")[0])
        return 200, {"MessageId": "an-id"}


@contextmanager
def recording() -> Generator[Recorder]:
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, told = recorder.answer(self.path, body, self.headers.get("authorization") or "")
            content = json.dumps(told).encode()
            # Whoever was kept waiting may have gone.
            with suppress(ConnectionError):
                self.send_response(status)
                self.send_header("content-type", "application/x-amz-json-1.0")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        recorder.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield recorder
        server.shutdown()
        thread.join()
