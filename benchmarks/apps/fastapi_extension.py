"""Microsoft's FastAPI extension, with the route as a function of its own."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request
from web import ANSWER

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="reply", methods=[func.HttpMethod.GET])
async def reply(req: Request) -> JSONResponse:
    return JSONResponse(ANSWER)
