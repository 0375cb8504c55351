"""`auth=` callables for callers that the platform has identified before the worker sees them.

Sources: App Service, "Work with user identities in Azure App Service authentication"; Functions, "Secure your function
app with access keys".
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING

import msgspec
from azure.functions import AuthLevel

from agent_framework_hosting import ChannelIdentity, isolation_key

from .call import current_call

if TYPE_CHECKING:
    from starlette.requests import Request

CHANNEL = "azure-functions"
PRINCIPAL_CHARACTERS = 64 * 1024
IDENTIFIER_CHARACTERS = 512
KEY_LEVELS = (AuthLevel.FUNCTION, AuthLevel.ADMIN)


class Claim(msgspec.Struct):
    typ: str
    val: str


class Principal(msgspec.Struct):
    auth_typ: str
    claims: list[Claim]
    name_typ: str | None = None

    def name(self) -> str | None:
        return next((claim.val for claim in self.claims if claim.typ == self.name_typ), None)


def easy_auth_identity(request: Request) -> ChannelIdentity | None:
    """Identify the caller by App Service authentication ("Easy Auth"); `None` for callers it did not sign in.

    The headers are the platform's only where `WEBSITE_AUTH_ENABLED` is true; elsewhere anybody could send them, and
    nobody is let in. `native_id` is `<provider>:<principal id>`.
    """
    if os.environ.get("WEBSITE_AUTH_ENABLED", "").strip().lower() != "true":
        return None
    principal = decode_principal(single(request, "x-ms-client-principal"))
    principal_id = single(request, "x-ms-client-principal-id")
    provider = single(request, "x-ms-client-principal-idp")
    if principal is None or not principal_id or not provider or principal.auth_typ != provider:
        return None
    if max(len(principal_id), len(provider)) > IDENTIFIER_CHARACTERS:
        return None
    attributes = {"provider": provider}
    if name := principal.name():
        attributes["name"] = name[:IDENTIFIER_CHARACTERS]
    return ChannelIdentity(CHANNEL, isolation_key(provider, principal_id), attributes)


def function_key_identity(request: Request) -> ChannelIdentity | None:
    """Identify the holders of the function app's keys: one caller, for the host does not tell which key it was.

    It holds only for a call that came through a `HostFunctionApp` whose `auth_level` is FUNCTION or ADMIN, which the
    host enforces before the worker sees the call. Core Tools (`func start`) enforce no keys: nobody is let in there.
    """
    call = current_call(request.scope)
    if call is None or call.auth_level not in KEY_LEVELS:
        return None
    if os.environ.get("AZURE_FUNCTIONS_ENVIRONMENT", "").strip().lower() == "development":
        return None
    level = call.auth_level.value.lower()
    return ChannelIdentity(CHANNEL, f"{level}-key", {"auth_level": level})


def single(request: Request, header: str) -> str | None:
    """Give a header's value; `None` also for a repeated header, which the platform never sends."""
    values = request.headers.getlist(header)
    return values[0] if len(values) == 1 else None


def decode_principal(text: str | None) -> Principal | None:
    if text is None or len(text) > PRINCIPAL_CHARACTERS:
        return None
    try:
        return msgspec.json.decode(base64.b64decode(text, validate=True), type=Principal)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        return None
