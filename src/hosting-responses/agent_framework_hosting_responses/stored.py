"""`/responses/{id}`: what is kept of a response, and its end."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from agent_framework_hosting import InvalidRequest, StateDamaged

from .answers import json_response
from .background import Background
from .callers import owner_of
from .problems import UnknownId, unknown_response
from .records import OfResponse, QueuedRecord, of_response
from .schema import Object, encode

if TYPE_CHECKING:
    from .service import Service

PAGE, MOST = 20, 100


class StoredResponses:
    """Finds a caller's own responses: what is somebody else's is not there."""

    def __init__(self, service: Service, background: Background) -> None:
        self.service = service
        self.background = background

    async def key_of(self, request: Request) -> str:
        """Give the key of the response that a request names.

        Raises:
            UnknownId: There can be none with that id.
            Unauthenticated: The caller is not known.
        """
        owner = owner_of(self.service.name, await self.service.authenticate(request))
        if (key := owner.response(request.path_params["id"])) is None:
            raise unknown_response()
        return key

    async def find(self, request: Request) -> OfResponse:
        return of_response(await self.service.context.attachment(await self.key_of(request)))

    async def show(self, request: Request) -> HttpResponse:
        record = await self.background.state_of(await self.find(request))
        query = request.query_params
        if read_flag(query, "stream"):
            from .following import follow

            return follow(self.background, record, after=read_number(query, "starting_after", least=-1, otherwise=-1))
        if "starting_after" in query:
            raise InvalidRequest("starting_after", "starting_after goes with stream=true.")
        return json_response(encode(record.response))

    async def delete(self, request: Request) -> HttpResponse:
        key = await self.key_of(request)
        # What is worked on ends first: once the record is gone nobody could find it.
        with contextlib.suppress(StateDamaged, UnknownId):
            if isinstance(of_response(await self.service.context.attachment(key)), QueuedRecord):
                await self.background.cancel(key)
        if not await self.service.context.delete(key):
            raise unknown_response()
        return json_response(encode({"id": request.path_params["id"], "object": "response", "deleted": True}))

    async def cancel(self, request: Request) -> HttpResponse:
        return json_response(encode(await self.background.cancel(await self.key_of(request))))

    async def input_items(self, request: Request) -> HttpResponse:
        record = await self.find(request)
        return json_response(encode(page_of(record.items, request.query_params)))


def page_of(items: list[Object], query: Mapping[str, str]) -> dict[str, object]:
    """Give a part of a list, the last ones first unless `order` is `asc`.

    Raises:
        InvalidRequest: `order`, `limit` or `after` is none.
    """
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order", "order must be asc or desc.")
    limit = read_number(query, "limit", least=1, most=MOST, otherwise=PAGE)
    found = items if order == "asc" else items[::-1]
    if (after := query.get("after")) is not None:
        places = [place for place, item in enumerate(found) if item["id"] == after]
        if not places:
            raise InvalidRequest("after", "after must be the id of an item of this list.")
        found = found[places[0] + 1 :]
    page = found[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > len(page),
    }


def read_flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false"):
        raise InvalidRequest(name, f"{name} must be true or false.")
    return value == "true"


def read_number(query: Mapping[str, str], name: str, *, least: int, most: int = 2**31 - 1, otherwise: int) -> int:
    value = query.get(name)
    if value is None:
        return otherwise
    digits = value.removeprefix("-")
    if len(digits) > 10 or not (digits.isascii() and digits.isdecimal()) or not least <= int(value) <= most:
        raise InvalidRequest(name, f"{name} must be a whole number from {least} to {most}.")
    return int(value)
