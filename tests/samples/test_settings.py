"""Numbers that are set from outside: what is none is named, where it is set and not where it is used."""

import runpy
from pathlib import Path

import pytest
from agent_app import chat_client
from settings import number

from agent_framework_hosting import ConfigurationError

SERVER = Path(__file__).resolve().parents[2] / "samples" / "server" / "app.py"


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("80", 80), ("65535", 65_535), ("", 8000), (None, 8000)])
def test_a_number_is_read_or_its_default_taken(text: str | None, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORT", raising=False)
    if text is not None:
        monkeypatch.setenv("PORT", text)
    assert number("PORT", 8000, most=65_535) == value


@pytest.mark.parametrize("text", ["abc", "80.5", "-1", "65536"])
def test_a_port_that_is_none_is_named_by_the_server(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", text)
    with pytest.raises(SystemExit, match=rf"^app\.py: PORT is '{text}': set it to a whole number from 0 to 65535\.$"):
        runpy.run_path(str(SERVER), run_name="__main__")


@pytest.mark.parametrize("text", ["fast", "nan", "inf", "-1"])
def test_a_pace_that_is_none_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OFFLINE_PACE", text)
    with pytest.raises(ConfigurationError, match=f"OFFLINE_PACE is '{text}': set it to a number from 0 to 60"):
        chat_client()
