"""`/conversations`: conversations that grow, which responses name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from agent_framework_hosting import InvalidRequest
from agent_framework_hosting.body import Json, read_body, read_json

from .answers import json_response
from .callers import owner_of
from .options import check_metadata
from .problems import unknown_conversation
from .records import ConversationObject, ConversationRecord, decode_record, encode_record
from .schema import encode

if TYPE_CHECKING:
    from .service import Service


class Conversations:
    """Makes, shows and deletes a caller's own conversations."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def create(self, request: Request) -> HttpResponse:
        service = self.service
        owner = owner_of(service.name, await service.authenticate(request))
        metadata = read_conversation_body(await self._body(request))
        record = ConversationRecord(service.mint("conv"), int(service.clock()), metadata)
        key = owner.conversation(record.id)
        assert key is not None
        await service.context.begin(key, encode_record(record))
        return shown(record)

    async def _body(self, request: Request) -> Json:
        limit = self.service.context.limits.body_bytes
        headers = request.headers
        empty = headers.get("content-length") == "0"
        if empty or (headers.get("content-type") is None and not await read_body(request, limit)):
            return {}
        return await read_json(request, limit)

    async def show(self, request: Request) -> HttpResponse:
        found = await self.service.context.attachment(await self.key_of(request))
        record = None if found is None else decode_record(request.path_params["id"], found)
        if not isinstance(record, ConversationRecord):
            raise unknown_conversation()
        return shown(record)

    async def delete(self, request: Request) -> HttpResponse:
        if not await self.service.context.delete(await self.key_of(request)):
            raise unknown_conversation()
        deleted = {"id": request.path_params["id"], "object": "conversation.deleted", "deleted": True}
        return json_response(encode(deleted))

    async def key_of(self, request: Request) -> str:
        owner = owner_of(self.service.name, await self.service.authenticate(request))
        if (key := owner.conversation(request.path_params["id"])) is None:
            raise unknown_conversation()
        return key


def read_conversation_body(body: Json) -> dict[str, str]:
    """Give the metadata.

    Raises:
        InvalidRequest: There is something else that counts.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("body", "The body must be a JSON object, or empty.")
    if body.get("items"):
        raise InvalidRequest("items", "A conversation begins empty: send what is to be said as input of a response.")
    for name in body:
        if name not in ("items", "metadata"):
            raise InvalidRequest(name[:80], f"{name[:80]!r} is not a parameter of a conversation: use metadata.")
    metadata = body.get("metadata")
    return {} if metadata is None else check_metadata(metadata, "metadata")


def shown(record: ConversationRecord) -> HttpResponse:
    return json_response(encode(ConversationObject(record.id, record.created_at, record.metadata)))
