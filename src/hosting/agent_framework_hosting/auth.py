"""Who may call: bearer keys by caller name, or a callable that knows the platform's identities."""

from __future__ import annotations

import hmac
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from .errors import ConfigurationError, HostingError
from .requests import ChannelIdentity

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Auth", "AuthenticationFailed", "Authenticator", "Unauthenticated"]

Identify = Callable[["Request"], Awaitable[ChannelIdentity | None] | ChannelIdentity | None]
Auth = Mapping[str, str | Sequence[str]] | Identify

MIN_KEY_LENGTH = 16
KEY = re.compile(r"[!-~]+")
logger = logging.getLogger("agent_framework.hosting")


class Unauthenticated(HostingError):
    """The caller is not known. HTTP 401.

    An `auth` callable may raise it, to refuse also where anonymous access is allowed.
    """


class AuthenticationFailed(HostingError):
    """The `auth` callable gave no answer; nobody gets in. HTTP 503, as nothing has been done yet."""


class Authenticator:
    """Finds a request's caller before anything else of the request is looked at.

    `auth=None` lets everybody in without a name. With `allow_anonymous` that holds for a caller that shows no
    `Authorization`; one that shows a wrong one is refused all the same.

    Raises:
        ConfigurationError: `auth` is neither of its two forms, or a key cannot be used.
    """

    def __init__(self, auth: Auth | None, *, channel: str, allow_anonymous: bool = False) -> None:
        self.channel = channel
        self.identify: Identify | None = auth if auth is None or callable(auth) else BearerKeys(auth, channel=channel)
        self.allow_anonymous = allow_anonymous
        self.closed = auth is not None or allow_anonymous
        """Whether the operator has decided who gets in."""

    async def __call__(self, request: Request) -> ChannelIdentity | None:
        """Give the caller, or None for an anonymous one.

        Raises:
            Unauthenticated: The caller must be known and is not.
            AuthenticationFailed: The `auth` callable raised, or gave something else than an identity.
            HTTPException: As the `auth` callable raised it.
        """
        if self.identify is None:
            return None
        try:
            identity = self.identify(request)
            if not isinstance(identity, ChannelIdentity) and inspect.isawaitable(identity):
                identity = await identity
            if identity is not None:
                check_identity(identity)
                return identity
        except (HostingError, HTTPException):
            raise
        except Exception as error:
            logger.error("auth of channel %r failed: nobody is let in.", self.channel, exc_info=error)
            raise AuthenticationFailed("The caller's identity cannot be checked at the moment: try later.") from error
        if self.allow_anonymous and not authorizations(request):
            return None
        if isinstance(self.identify, BearerKeys):
            raise Unauthenticated("Send a key that is known here: Authorization: Bearer <key>.")
        raise Unauthenticated("The caller is not known here.")


class BearerKeys:
    """Caller names by `Authorization: Bearer <key>` (RFC 6750). Keeps digests only: no key shows in a dump.

    A caller may have several keys, so that one can be replaced while both work. Keys are visible ASCII of at least
    16 characters; the mapping is copied.
    """

    def __init__(self, keys: Mapping[str, str | Sequence[str]], *, channel: str) -> None:
        check_callers(keys, channel)
        owners: dict[bytes, ChannelIdentity] = {}
        for name, own in keys.items():
            identity = ChannelIdentity(channel, check_name(name, channel))
            for key in [own] if isinstance(own, str) else check_keys(own, name):
                digest = sha256(check_key(key, channel)).digest()
                if owners.setdefault(digest, identity) is not identity:
                    raise ConfigurationError(
                        f"auth callers {shown(owners[digest].native_id)} and {shown(name)} have the same key: give "
                        "each its own."
                    )
        self.owners = tuple(owners.items())

    def __repr__(self) -> str:
        return f"BearerKeys({sorted({identity.native_id for _, identity in self.owners})!r})"

    def __call__(self, request: Request) -> ChannelIdentity | None:
        values = authorizations(request)
        if len(values) != 1:
            return None
        scheme, _, key = values[0].partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        digest = sha256(key.strip(b" ")).digest()
        found: ChannelIdentity | None = None
        # Every key is compared, whichever fits: the time tells nothing.
        for owned, identity in self.owners:
            if hmac.compare_digest(owned, digest):
                found = identity
        return found


def authorizations(request: Request) -> list[bytes]:
    return [value for name, value in request.scope["headers"] if name == b"authorization"]


def check_identity(identity: object) -> None:
    """Refuse what would give several callers one name.

    Raises:
        TypeError: It is not a `ChannelIdentity` with a name.
        AttributeError, UnicodeEncodeError: Its name is not a text that has a UTF-8 form.
    """
    if not isinstance(identity, ChannelIdentity):
        raise TypeError(f"auth must return a ChannelIdentity or None, not {type(identity).__name__}.")
    if not identity.native_id:
        raise TypeError("auth returned a ChannelIdentity without a native_id: every caller would be the same one.")
    identity.native_id.encode()


def check_callers(keys: object, channel: str) -> None:
    if not isinstance(keys, Mapping) or not keys:
        raise ConfigurationError(f"auth of channel {channel!r} must be a callable, or map callers' names to keys.")


def check_name(name: object, channel: str) -> str:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ConfigurationError(f"auth of channel {channel!r}: a caller's name must be printable text.")
    return name


def check_keys(keys: object, name: str) -> Sequence[object]:
    if not isinstance(keys, Sequence) or isinstance(keys, bytes | bytearray | memoryview) or not keys:
        raise ConfigurationError(f"auth caller {shown(name)} needs a key (text) or a sequence of keys.")
    return keys  # pyright: ignore[reportUnknownVariableType]


def shown(name: str) -> str:
    """Name a caller, unless the name may be a key: somebody may have written the mapping the wrong way round."""
    return repr(name) if len(name) < MIN_KEY_LENGTH else "(a name as long as a key)"


def check_key(key: object, channel: str) -> bytes:
    if not isinstance(key, str) or len(key) < MIN_KEY_LENGTH or not KEY.fullmatch(key):
        raise ConfigurationError(
            f"auth of channel {channel!r} maps callers' names to keys, and a key is visible ASCII of at least "
            f"{MIN_KEY_LENGTH} characters. Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return key.encode()
