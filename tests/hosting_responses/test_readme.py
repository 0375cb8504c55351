"""The README's own code, with the official client against the app in process."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
import pytest
from agent_framework import AgentResponseUpdate, AgentSession, Content
from starlette.testclient import TestClient

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_responses import ResponsesChannel
from scripts.workspace import ROOT
from tests.support.echo import EchoAgent

README = (ROOT / "src/hosting-responses/README.md").read_text("utf-8")
CODE: list[str] = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
APP, CLIENT, FUNCTIONS, STRUCTURED, QUESTIONS, BACKGROUND = CODE
KEY = "0123456789abcdef"


class OrderAgent(EchoAgent):
    """Answers with an order as JSON."""

    async def updates(self, messages: Any, session: AgentSession | None) -> AsyncIterator[AgentResponseUpdate]:
        text = '{"number": "1003", "pieces": 6}'
        yield AgentResponseUpdate(contents=[Content.from_text(text)], role="assistant", message_id="m")


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The sample's agent, as the module that the README imports."""
    monkeypatch.setenv("SHOP_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("OFFLINE_PACE", "0")
    monkeypatch.syspath_prepend(ROOT / "samples")
    from agent_app import support_agent

    my_agent = ModuleType("my_agent")
    my_agent.__dict__["agent"] = support_agent()
    monkeypatch.setitem(sys.modules, "my_agent", my_agent)
    return my_agent.__dict__["agent"]


def run(source: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    names = {"__name__": "example"} if names is None else names
    exec(compile(source, "example.py", "exec"), names)
    return names


def calling(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients that are made from now on call an app in process."""

    class Client(openai.OpenAI):
        def __init__(self, **how: Any) -> None:
            super().__init__(**how, http_client=http, max_retries=0)

    monkeypatch.setattr(openai, "OpenAI", Client)


def test_the_app_is_made_as_it_is_printed(sample: Any, tmp_path: Path) -> None:
    host: AgentFrameworkHost = run(APP.replace("/mnt/efs/bot", str(tmp_path / "bot")))["host"]
    host.check_exposure("a cloud")


def test_the_client_gets_what_is_promised(
    sample: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    channel = ResponsesChannel(auth={"shop": KEY}, forward_options=("tools",))
    with TestClient(AgentFrameworkHost(sample, channels=[channel]).app) as http:
        calling(http, monkeypatch)
        names = run(CLIENT)
        assert capsys.readouterr().out.splitlines() == [
            "Your name is Ada. The parcel of order 1002 is on its way, expected on Friday.",
            "Order 1003 is a set of six cups for 112.90 EUR.Your name is Grace.",
        ]
        run(FUNCTIONS, names)
        assert capsys.readouterr().out == "12\n"
        run(QUESTIONS, names)
        assert capsys.readouterr().out.startswith("64.00 EUR are refunded for order 1002")
        run(BACKGROUND, names)
        assert capsys.readouterr().out.startswith("completed ")


def test_structured_output_is_parsed(
    sample: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    channel = ResponsesChannel(auth={"shop": KEY}, forward_options=("text",))
    with TestClient(AgentFrameworkHost(OrderAgent(), channels=[channel]).app) as http:
        calling(http, monkeypatch)
        client = openai.OpenAI(base_url="http://localhost:8000", api_key=KEY)
        run(STRUCTURED, {"__name__": "example", "client": client})
    assert capsys.readouterr().out == "number='1003' pieces=6\n"
