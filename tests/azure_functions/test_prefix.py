"""The default route prefix of Functions, `api`: the app's paths lie below it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import ECHO, EchoStarter

pytestmark = pytest.mark.needs("functions-worker")


async def test_the_apps_paths_lie_below_the_default_prefix(tmp_path: Path, start_echo: EchoStarter, mode: str) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "function_app.py").write_bytes((ECHO / "function_app.py").read_bytes())
    (folder / "host.json").write_text('{"version": "2.0"}')
    async with start_echo(mode, folder) as echo, echo.client() as client:
        seen = (await client.get("/api/echo/a%2Fb")).json()
        assert (seen["path"], seen["root_path"]) == ("/api/echo/a/b", "/api")
        assert (seen["raw_path"], seen["parameters"]) == ("/api/echo/a%2Fb", {"rest": "a/b"})
        assert (await client.get("/api/docs")).text == "ours"
        assert (await client.post("/api/own/ada", content="hi")).text == "ada: hi"
        for elsewhere in ("/echo", "/apiecho", "/apis/echo"):
            assert (await client.get(elsewhere)).status_code == 404
