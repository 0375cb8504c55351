"""`/models`: what answers here, the one target."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from .answers import json_response
from .problems import UnknownId
from .schema import Object, encode

if TYPE_CHECKING:
    from .service import Service


class Models:
    def __init__(self, service: Service) -> None:
        self.service = service

    async def list(self, request: Request) -> HttpResponse:
        return json_response(encode({"object": "list", "data": [await self.model(request)]}))

    async def show(self, request: Request) -> HttpResponse:
        model = await self.model(request)
        if unquote(request.path_params["id"]) != model["id"]:
            raise UnknownId("There is no such model here: GET /models lists the one that answers.")
        return json_response(encode(model))

    async def model(self, request: Request) -> Object:
        """Describe the target.

        Raises:
            Unauthenticated: The caller is not known.
        """
        from .targets import model_name

        await self.service.authenticate(request)
        return {"id": model_name(self.service.context.target), "object": "model", "created": 0, "owned_by": "host"}
