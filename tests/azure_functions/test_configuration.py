"""What a function app can get wrong, and how it is told."""

from __future__ import annotations

import sys
from pathlib import Path

import azure.functions as func
import pytest
from starlette.applications import Starlette

from agent_framework_hosting.errors import ConfigurationError
from agent_framework_hosting_azure_functions import HostFunctionApp
from agent_framework_hosting_azure_functions.settings import PREFIX_SETTING, root_path_of
from emulators.functions_worker import FunctionsWorker, WorkerFailed

HOST = """
from starlette.applications import Starlette
from agent_framework_hosting.errors import ConfigurationError
from agent_framework_hosting_azure_functions import HostFunctionApp

class Host:
    app = Starlette()
    def check_platform(self, platform, **how): ...

class OpenHost(Host):
    def check_platform(self, platform):
        raise ConfigurationError(f"Channel 'invocations' is open to anybody on {platform}: pass auth=.")
"""

FAULTS = {
    "an open channel": (f"{HOST}\napp = HostFunctionApp(OpenHost())", "open to anybody on Azure Functions"),
    "another web extension before": (
        f"import azurefunctions.extensions.http.fastapi\n{HOST}\napp = HostFunctionApp(Host())",
        r"takes one web extension, and azurefunctions\.extensions\.http\.fastapi\.web is already registered",
    ),
    "another web extension, buffered": (
        f"import azurefunctions.extensions.http.fastapi\n{HOST}\napp = HostFunctionApp(Host(), streaming=False)",
        "which streaming=False cannot serve",
    ),
    "a level that does not exist": (
        f"{HOST}\napp = HostFunctionApp(Host(), auth_level='secret')",
        "auth_level is one of FUNCTION, ANONYMOUS, ADMIN, not 'secret'",
    ),
    "a classic HTTP function beside streaming": (
        f"""{HOST}
import azure.functions as func
app = HostFunctionApp(Host())
@app.route(route="x")
def x(req: func.HttpRequest) -> func.HttpResponse: ...
""",
        "cannot load the x function",
    ),
}


class Host:
    def __init__(self) -> None:
        self.app = Starlette()
        self.checked: list[str] = []

    def check_platform(self, platform: str) -> None:
        self.checked.append(platform)


@pytest.mark.needs("functions-worker")
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_faulty_app_is_a_load_error_that_says_why(tmp_path: Path, fault: str) -> None:
    source, message = FAULTS[fault]
    (tmp_path / "function_app.py").write_text(source)
    with pytest.raises(WorkerFailed, match=message):
        async with FunctionsWorker(tmp_path):
            pass


def test_the_host_is_asked_whether_it_may_be_exposed() -> None:
    host = Host()
    app = HostFunctionApp(host)
    assert host.checked == ["Azure Functions"]
    assert app.auth_level is func.AuthLevel.ANONYMOUS


def test_older_pythons_need_a_setting_to_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHON_ENABLE_INIT_INDEXING", raising=False)
    monkeypatch.setattr(sys, "version_info", (3, 12, 9, "final", 0))
    with pytest.raises(ConfigurationError, match="PYTHON_ENABLE_INIT_INDEXING=1"):
        HostFunctionApp(Host()).get_functions()
    monkeypatch.setenv("PYTHON_ENABLE_INIT_INDEXING", "1")
    assert [function.get_function_name() for function in HostFunctionApp(Host()).get_functions()] == ["agent_host"]


def test_outside_a_worker_nothing_starts() -> None:
    app = HostFunctionApp(Host(), function_name="bot")
    assert [function.get_function_name() for function in app.get_functions()] == ["bot"]


@pytest.mark.parametrize(
    ("given", "setting", "host_json", "expected"),
    [
        (None, None, None, "/api"),
        (None, None, "{}", "/api"),
        (None, None, '{"extensions": {"http": {"routePrefix": ""}}}', ""),
        (None, None, '{"extensions": {"http": {"routePrefix": "v1/bots"}}}', "/v1/bots"),
        (None, None, '{"extensions": {"http": {}}}', "/api"),
        (None, None, '{"extensions": []}', "/api"),
        (None, "", '{"extensions": {"http": {"routePrefix": "v1"}}}', ""),
        (None, "v2", None, "/v2"),
        ("", "v2", None, ""),
        ("/api/", None, None, "/api"),
    ],
)
def test_the_route_prefix(
    tmp_path: Path,
    given: str | None,
    setting: str | None,
    host_json: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if host_json is not None:
        (tmp_path / "host.json").write_text(host_json)
    environ = {"AzureWebJobsScriptRoot": str(tmp_path)}
    if setting is not None:
        environ[PREFIX_SETTING] = setting
    assert root_path_of(given, environ) == expected


def test_a_host_json_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"host\.json .* route_prefix="):
        root_path_of(None, {"AzureWebJobsScriptRoot": str(tmp_path)})
