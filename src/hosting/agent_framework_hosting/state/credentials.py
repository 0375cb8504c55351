"""Credentials that a platform hands out over HTTP to the process, and that expire."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

from ..errors import ConfigurationError, StateUnavailable

if TYPE_CHECKING:
    from obstore.store import AzureBearerToken, S3Credential

T = TypeVar("T")

FETCH_TIMEOUT = 3.0
FETCHES = 3
SPARE = 300.0
PAUSE = 5.0

# Where the SDKs take credentials from without TLS, beside this machine itself: the agents of ECS and EKS.
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
AGENTS = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}


class Fetched(NamedTuple, Generic[T]):
    """A credential in obstore's form, and when it expires, in seconds since 1970."""

    credential: T
    expires: float


class Expiring(Generic[T]):
    """A credential that is fetched anew before it expires. Calling it gives the current one, as obstore wants it.

    `fetch` blocks, and runs on a thread of the stores. Await `fresh` before obstore may ask: then it never waits.
    """

    def __init__(self, fetch: Callable[[], Fetched[T]], *, now: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._now = now
        self._lock = threading.Lock()
        self._current: Fetched[T] | None = None
        self._renew_at = 0.0

    def __call__(self) -> T:
        current = self._current
        if current is None:
            raise StateUnavailable("There are no credentials yet.")
        return current.credential

    async def fresh(self) -> None:
        """Make sure that the current credential is good for a while.

        Raises:
            StateUnavailable: There is none, and none could be fetched.
        """
        if self._now() >= self._renew_at:
            import asyncio

            from .directory import threads

            await asyncio.wrap_future(threads().submit(self._renew))

    def _renew(self) -> None:
        with self._lock:
            now = self._now()
            if now < self._renew_at:
                return
            try:
                fetched = self._fetch()
            except StateUnavailable:
                if self._current is None or self._current.expires - now < PAUSE:
                    raise
                self._renew_at = now + PAUSE
                return
            left = fetched.expires - now
            self._current, self._renew_at = fetched, now + max(left - SPARE, left / 2, PAUSE)


def container_credentials(
    environment: Mapping[str, str], *, now: Callable[[], float] = time.time
) -> Expiring[S3Credential] | None:
    """Take credentials where Lambda under SnapStart, ECS and EKS offer them; None where they do not.

    obstore knows the endpoint but not the token in `AWS_CONTAINER_AUTHORIZATION_TOKEN`. As in the SDKs, keys in the
    environment and a web identity come first.

    Raises:
        ConfigurationError: The endpoint is none that credentials may be taken from.
    """
    url = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    first = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if not url or any(environment.get(name) for name in first):
        return None
    endpoint = urlsplit(url)
    if endpoint.scheme not in ("http", "https") or not (endpoint.scheme == "https" or may_be_plain(endpoint.hostname)):
        raise ConfigurationError(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI names a host that credentials are not taken from without TLS: it must "
            "be https, this machine, or the agent of ECS or EKS."
        )

    def fetch() -> Fetched[S3Credential]:
        answer = fetch_json(url, authorization(environment), "AWS_CONTAINER_CREDENTIALS_FULL_URI")
        try:
            expires = datetime.fromisoformat(answer["Expiration"])
            credential: S3Credential = {
                "access_key_id": str(answer["AccessKeyId"]),
                "secret_access_key": str(answer["SecretAccessKey"]),
                "token": str(answer["Token"]),
                "expires_at": expires,
            }
            return Fetched(credential, expires.timestamp())
        except (KeyError, TypeError, ValueError):
            raise no_credentials("AWS_CONTAINER_CREDENTIALS_FULL_URI", "gave something else") from None

    return Expiring(fetch, now=now)


def may_be_plain(host: str | None) -> bool:
    if host is None:
        return False
    if host in AGENTS or host == "localhost":
        return True
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def authorization(environment: Mapping[str, str]) -> dict[str, str]:
    token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if path := environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        try:
            with open(path, encoding="utf-8") as file:  # anew each time: it is rotated
                token = file.read().strip()
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise no_credentials("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", f"cannot be read: {reason}") from None
    if "\r" in token or "\n" in token:
        raise no_credentials("AWS_CONTAINER_AUTHORIZATION_TOKEN", "holds a line break")
    return {"Authorization": token} if token else {}


def managed_identity(environment: Mapping[str, str], client_id: str | None) -> Expiring[AzureBearerToken] | None:
    """Take tokens from the managed identity of App Service, Functions or Container Apps; None where there is none.

    https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
    """
    endpoint, header = environment.get("IDENTITY_ENDPOINT"), environment.get("IDENTITY_HEADER")
    if not endpoint or not header:
        return None
    asked = {"api-version": "2019-08-01", "resource": "https://storage.azure.com/"}
    query = urlencode(asked | ({"client_id": client_id} if client_id else {}))

    def fetch() -> Fetched[AzureBearerToken]:
        answer = fetch_json(f"{endpoint}?{query}", {"X-IDENTITY-HEADER": header}, "the managed identity")
        try:
            expires = float(answer["expires_on"])
            token: AzureBearerToken = {
                "token": str(answer["access_token"]),
                "expires_at": datetime.fromtimestamp(expires).astimezone(),
            }
            return Fetched(token, expires)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise no_credentials("the managed identity", "gave something else") from None

    return Expiring(fetch)


def fetch_json(url: str, headers: Mapping[str, str], source: str) -> dict[str, Any]:
    """Get a JSON object, past any proxy; `source` stands for the address in what is raised.

    Raises:
        StateUnavailable: That did not succeed.
    """
    from http.client import HTTPException
    from json import loads

    said = ""
    for _ in range(FETCHES):
        try:
            status, body = get(url, headers)
        except (OSError, HTTPException) as error:
            said = f"did not answer ({type(error).__name__})"
            continue
        if status != 200:
            said = f"answered {status}"
            if status < 500 and status != 429:
                break
            continue
        try:
            answer = loads(body)
        except ValueError:
            said = "gave something else"
            continue
        if isinstance(answer, dict):
            return answer  # pyright: ignore[reportUnknownVariableType]
        said = "gave something else"
    raise no_credentials(source, said)


def get(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=FETCH_TIMEOUT)
    try:
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read(1 << 20)
    finally:
        connection.close()


def no_credentials(source: str, said: str) -> StateUnavailable:
    return StateUnavailable(f"No credentials for the object store: {source} {said}. Check the role or identity.")
