"""S3, SQS, SSM and Azure Blob Storage on this machine: moto's server, and Microsoft's Azurite.

    with Moto() as s3, Azurite(main) as azure:
        s3.make_bucket("bucket")
        azure.make_container("container")

Each is a process of its own on a free port of the loopback interface, keeps everything in memory, and ends with the
process that started it, however that ends. What they do not show: permissions, throttling, other regions.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

START = 60.0
VERSION = "2023-11-03"
MEMORY = 1024
# Each ends with its standard input, which is a pipe from the process that started it.
MOTO_SERVER = Path(__file__).with_name("moto_server.py")
WATCH = "data:text/javascript,process.stdin.on('end',()=>process.exit(0));process.stdin.resume()"


class EmulatorFailed(Exception):
    """The emulator did not start, or refused to make what was asked for."""


class Emulator:
    """A process that serves on a port. `environment` is what the SDKs need to find it."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._output = tempfile.TemporaryFile()
        for _ in range(3):
            # Another process may take a free port before the emulator does.
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=self._output, stderr=subprocess.STDOUT
            )
            end = time.monotonic() + START
            while self._process.poll() is None and time.monotonic() < end:
                if self._answers():
                    return self
                time.sleep(0.05)  # Between two attempts to connect: it does not say when it is up.
            self.stop()
        self._output.seek(0)
        raise EmulatorFailed(f"{type(self).__name__} does not come up.\n{self._output.read().decode()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if self._output is not None:
            self._output.close()

    def stop(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def request(self, method: str, path: str, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/", {}) > 0
        return False


class Moto(Emulator):
    """S3, SQS and SSM, as moto has them. They let everybody do everything."""

    def command(self) -> list[str]:
        return [sys.executable, os.fspath(MOTO_SERVER), str(self.port)]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{self.port}",
            "AWS_ENDPOINT_URL_SSM": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> None:
        """Make a bucket.

        Raises:
            EmulatorFailed: It was refused.
        """
        if (status := self.request("PUT", f"/{name}", {})) != 200:
            raise EmulatorFailed(f"moto answered {status} when asked for the bucket {name}.")


class Azurite(Emulator):
    """Azure Blob Storage. `main` is the script of its blob service, `node` the Node.js to run it with."""

    account: ClassVar = "devstoreaccount1"
    # The same for every emulator.
    key: ClassVar = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self, main: Path, *, node: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self.main = main
        self.node = os.fspath(node or shutil.which("node") or "node")

    def command(self) -> list[str]:
        return [
            *(self.node, f"--import={WATCH}", "--max-old-space-size=1024", "--max-semi-space-size=64"),
            os.fspath(self.main),
            *("--blobHost", "127.0.0.1", "--blobPort", str(self.port)),
            *("--inMemoryPersistence", "--extentMemoryLimit", str(MEMORY)),
            *("--silent", "--skipApiVersionCheck", "--disableTelemetry"),
        ]

    @property
    def environment(self) -> dict[str, str]:
        endpoint = f"http://127.0.0.1:{self.port}/{self.account}"
        parts = {"AccountName": self.account, "AccountKey": self.key, "BlobEndpoint": endpoint}
        return {"AZURE_STORAGE_CONNECTION_STRING": ";".join(f"{name}={value}" for name, value in parts.items())}

    def make_container(self, name: str) -> None:
        """Make a container.

        https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key

        Raises:
            EmulatorFailed: It was refused.
        """
        date = format_datetime(datetime.now(UTC), usegmt=True)
        # On an emulator the account is in the path, and so twice in what is signed.
        resource = f"/{self.account}/{self.account}/{name}\nrestype:container"
        signed = f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:{VERSION}\n{resource}"
        digest = hmac.digest(base64.b64decode(self.key), signed.encode(), hashlib.sha256)
        headers = {
            "Authorization": f"SharedKey {self.account}:{base64.b64encode(digest).decode()}",
            "Content-Length": "0",
            "x-ms-date": date,
            "x-ms-version": VERSION,
        }
        status = 0
        for _ in range(3):
            # Just started on a busy machine, it has answered 500.
            status = self.request("PUT", f"/{self.account}/{name}?restype=container", headers)
            if status < 500:
                break
        if status != 201:
            raise EmulatorFailed(f"Azurite answered {status} when asked for the container {name}.")
