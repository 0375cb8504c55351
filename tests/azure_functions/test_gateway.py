"""The door of the worker's server, and the responses behind it, without a worker."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from agent_framework_hosting.errors import ConfigurationError
from agent_framework_hosting_azure_functions.extension import Gateway, RouteParameters, WebApp, WebServer


def client_of(gateway: Gateway) -> httpx2.AsyncClient:
    headers = {"x-ms-invocation-id": "1"}
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(gateway), base_url="http://worker", headers=headers)


async def test_a_request_whose_invocation_never_comes_is_refused() -> None:
    async def never(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with client_of(Gateway(never, None, invocation_seconds=0.05)) as client:
        response = await client.get("/")
    assert (response.status_code, response.text) == (403, "No invocation came for this request.")


async def test_a_function_may_take_its_time_once_its_invocation_has_come() -> None:
    async def slow(request: Any) -> Response:
        RouteParameters().sync_route_params(request, {"name": "ada"})
        await asyncio.sleep(0.2)
        return PlainTextResponse(request.path_params["name"])

    async with client_of(Gateway(slow, None, invocation_seconds=0.05)) as client:
        assert (await client.get("/")).text == "ada"


async def test_a_time_out_of_the_function_itself_is_not_mistaken_for_a_missing_invocation() -> None:
    async def late(request: Request) -> Response:
        raise TimeoutError("the function's own")

    async with client_of(Gateway(late, None)) as client:
        with pytest.raises(TimeoutError, match="the function's own"):
            await client.get("/")


def test_a_worker_that_registers_no_handler_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="no handler"):
        WebApp().get_app()


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_the_server_never_leaves_loopback(address: str) -> None:
    web = WebApp()
    web.route(lambda request: asyncio.sleep(0, PlainTextResponse("")))
    with pytest.raises(ConfigurationError, match="must stay on loopback"):
        WebServer(address, 0, web)


def test_importing_the_package_loads_no_server_and_registers_no_extension() -> None:
    import subprocess

    code = (
        "import sys, agent_framework_hosting_azure_functions as package\n"
        "assert package.HostFunctionApp\n"
        "loaded = [n for n in ('uvicorn', 'azurefunctions.extensions.base') if n in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
