"""Signed requests, in and out: HMAC-SHA256 over a time and the body, with a secret that both ends have."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from starlette.requests import Request

from agent_framework_hosting import ConfigurationError, Unauthenticated
from agent_framework_hosting.body import UnsupportedBody, read_body

if TYPE_CHECKING:
    from ssl import SSLContext

TIMESTAMP, SIGNATURE = "x-webhook-timestamp", "x-webhook-signature"
WINDOW = 300
"""Seconds by which the time of a request may differ from ours, in both directions."""


def sign(secret: str, timestamp: str, body: bytes) -> str:
    return "sha256=" + hmac.digest(secret.encode(), timestamp.encode() + b"." + body, "sha256").hex()


@cache
def tls() -> SSLContext:
    """Make what a client needs for https, once: it takes 20 ms, in which the process does nothing else."""
    import httpx2

    return httpx2.create_ssl_context()


class Signatures:
    """Signs with the first of `secrets` and takes each of them, so that one can be replaced while both work.

    `timeout` bounds what `post` does, in seconds.

    Raises:
        ConfigurationError: There is no secret, or one is short enough to be guessed.
    """

    def __init__(
        self, secrets: Sequence[str], *, timeout: float = 10.0, clock: Callable[[], float] = time.time
    ) -> None:
        if not secrets or min(map(len, secrets)) < 32:
            raise ConfigurationError("secrets is a list of texts of 32 characters or more, each made at random.")
        self.secrets = tuple(secrets)
        self.timeout = timeout
        self.clock = clock

    async def read(self, request: Request, limit: int) -> bytes:
        """Give the JSON text in a signed request of at most `limit` bytes.

        Raises:
            Unauthenticated: It is not signed, or not for this time and body. Before any body is read, where possible.
            BodyTooLarge, UnsupportedBody: As their names say.
            ClientDisconnect: The client went away before the body was complete.
        """
        timestamp, signature = request.headers.get(TIMESTAMP, ""), request.headers.get(SIGNATURE, "")
        if not re.fullmatch("[0-9]{1,12}", timestamp) or not re.fullmatch("sha256=[0-9a-f]{64}", signature):
            raise Unauthenticated(f"Sign the request: {TIMESTAMP} and {SIGNATURE}.")
        if abs(self.clock() - int(timestamp)) > WINDOW:
            raise Unauthenticated(f"{TIMESTAMP} is more than {WINDOW} s from now: sign each attempt anew.")
        body = await read_body(request, limit)
        # All of them are compared, whichever fits: the time tells nothing.
        fits = [hmac.compare_digest(sign(secret, timestamp, body), signature) for secret in self.secrets]
        if not any(fits):
            raise Unauthenticated("The signature is not that of this time and body.")
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise UnsupportedBody("Send JSON, with the header Content-Type: application/json.")
        return body

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a signed JSON text; only the status of the answer counts, and no redirect is followed.

        Raises:
            TimeoutError: It took more than `timeout` seconds in all.
            HTTPError: Of httpx2: there was no answer, or none with a status of 200 to 299.
        """
        import httpx2

        timestamp = str(int(self.clock()))
        signed = {TIMESTAMP: timestamp, SIGNATURE: sign(self.secrets[0], timestamp, body)}
        headers = {"content-type": "application/json", **headers, **signed}
        async with (
            asyncio.timeout(self.timeout),
            httpx2.AsyncClient(verify=tls(), timeout=self.timeout) as client,
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            response.raise_for_status()
