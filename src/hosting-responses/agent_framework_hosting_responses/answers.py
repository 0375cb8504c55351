"""What all endpoints answer with: JSON, and failures in the words of the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from .problems import failure_of

if TYPE_CHECKING:
    from .service import Service

Answer = Callable[[Request], Awaitable[HttpResponse]]


def guarded(service: Service, answer: Answer) -> Answer:
    """Tell failures in the words of the API."""

    async def answered(request: Request) -> HttpResponse:
        try:
            return await answer(request)
        except Exception as error:
            return failure_of(error, channel=service.name).response()

    return answered


def json_response(content: bytes, status: int = 200) -> HttpResponse:
    return HttpResponse(content, status, media_type="application/json")
