"""The README, as a newcomer follows it: what it says to type is typed, and what it says of the answers holds."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from agent_framework import Agent

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting.limits import DEFAULT_LIMITS
from scripts.environments import development
from scripts.workspace import CONSTRAINTS, ROOT, fingerprint, packages
from tests.support.asgi import Reply, call, post_json
from tests.support.channels import started
from tests.support.echo import EchoAgent
from tests.support.sse import Event, parse_events

PATIENCE = 60.0
README = (ROOT / "README.md").read_text("utf-8")
ADDRESS = "localhost:8000"


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of a language in one section of the README."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def environment(**more: str) -> dict[str, str]:
    """This process's own, without what its caller set for it: a newcomer types in a fresh terminal."""
    mine = re.compile(r"MAKE|MFLAGS|OPENAI_|OFFLINE_|SAMPLE_|API_KEYS|STATE_DIR|.*_proxy$", re.IGNORECASE)
    return {**{name: value for name, value in os.environ.items() if not mine.match(name)}, **more}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in which `make setup` has already been done."""
    folder = tmp_path / "clone"
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", CONSTRAINTS, *(p / "pyproject.toml" for p in packages())):
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for name in ("scripts", "samples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".state"))
    # What stands in for the environment is this one, wherever it is.
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (folder / ".venv" / ".stamp").write_text(fingerprint(*development().groups))
    return folder


@contextmanager
def serving(command: str, folder: Path) -> Iterator[str]:
    """Type a command that serves, and give its address; end it with Ctrl-C. Port 0 is a free one."""
    server = subprocess.Popen(
        ["sh", "-c", command],
        cwd=folder,
        env=environment(PORT="0", PYTHON=sys.executable),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    bound = threading.Timer(PATIENCE, os.killpg, (server.pid, signal.SIGKILL))
    bound.start()
    try:
        assert server.stdout is not None
        said: list[str] = []
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"Serving .* on http://127\.0\.0\.1:(\d+)", line):
                yield f"localhost:{found[1]}"
                break
        else:
            pytest.fail(f"It ended by itself:\n{''.join(said)}")
        os.killpg(server.pid, signal.SIGINT)
        rest, _ = server.communicate(timeout=PATIENCE)
        assert "Traceback" not in rest
    finally:
        bound.cancel()
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def type_in(script: str, address: str) -> str:
    """Run lines of the README in a shell, at the address of this server."""
    assert ADDRESS in script
    typed = script.replace(ADDRESS, address)
    ran = subprocess.run(
        ["sh", "-euc", typed], capture_output=True, text=True, timeout=PATIENCE, env=environment(), check=True
    )
    return ran.stdout


def answers(printed: str, count: int) -> tuple[list[Mapping[str, Any]], list[Event]]:
    """Take apart what `count` one-shot calls and one stream have printed."""
    *lines, streamed = printed.split("\n", count)
    return [json.loads(line) for line in lines], parse_events(streamed.encode())


@pytest.mark.needs("curl")
def test_the_quickstart_does_what_it_says(clone: Path) -> None:
    serve, ask = blocks("Quickstart", "sh")
    with serving(serve, clone) as address:
        (noted, recalled, waiting, approved), streamed = answers(type_in(ask, address), 4)
    assert all(answer["session_id"] == "tea" for answer in (noted, recalled, waiting, approved))
    assert "Ada" in noted["response"]
    assert "Ada" in recalled["response"], "the second turn uses memory"
    assert "The parcel of order 1002 is on its way" in recalled["response"], "and a tool"
    (pending,) = waiting["pending"]
    assert pending["kind"] == "tool_approval"
    assert "64.00 EUR are refunded for order 1002" in approved["response"]
    assert "pending" not in approved
    *words, result, done = streamed
    assert len(words) > 1 and (result.type, done) == ("result", Event("[DONE]"))
    assert "".join(word.data for word in words) == json.loads(result.data)["response"]
    assert "1003" in json.loads(result.data)["response"]

    # "Stop the server with Ctrl-C, start it again, and ask for the name once more."
    definition = ask.partition("say '")[0]
    question = """say '{"session_id": "tea", "message": "What is my name?"}'"""
    with serving(serve, clone) as address:
        assert json.loads(type_in(definition + question, address))["response"] == "Your name is Ada."


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Run a module of the README, beside an agent and the sample's workflow; gives its names."""
    my_agent = ModuleType("my_agent")
    my_agent.__dict__["agent"] = EchoAgent()
    monkeypatch.setitem(sys.modules, "my_agent", my_agent)
    monkeypatch.syspath_prepend(ROOT / "samples")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)

    def run(source: str) -> dict[str, Any]:
        made: dict[str, Any] = {"__name__": "example"}
        exec(compile(source, "example.py", "exec"), made)
        return made

    return run


async def test_the_channel_of_ones_own_runs_as_it_is_printed(example: Callable[[str], dict[str, Any]]) -> None:
    (source,) = blocks("A channel of your own", "python")
    (typed,) = blocks("A channel of your own", "sh")
    found = re.search(rf"^curl -H 'Authorization: Bearer (.*?)' {ADDRESS}(\S+) -d '(.*?)'$", typed, re.MULTILINE)
    assert found is not None
    key, path, text = found.groups()
    module = example(source)
    printed: AgentFrameworkHost = module["host"]
    async with started(printed):
        reply = await call(printed.app, path=path, body=text.encode(), headers={"authorization": f"Bearer {key}"})
        assert reply.body == f"1: {text}".encode()
    other = "another-key-0123456789"
    host = AgentFrameworkHost(EchoAgent(), channels=[module["PlainText"]({"ada": key, "bob": other})])
    host.check_exposure("a test")

    async def say(words: str, bearer: str | None = key) -> Reply:
        headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
        return await call(host.app, path=path, body=words.encode(), headers=headers)

    async with started(host):
        assert (await say(text)).body == f"1: {text}".encode()
        assert (await say("again")).body == b"2: again"
        assert (await say("hello", other)).body == b"1: hello", "the caller is part of the key"
        for bearer in (None, "not-a-key-0123456789"):
            assert (await say(text, bearer)).status == 401
        assert (await say(" ")).status == 422
        failed = await say("fail")
        assert failed.status == 500 and b"secret" not in failed.body
        assert (await say("x" * (DEFAULT_LIMITS.body_bytes + 1))).status == 413


async def test_where_somebody_else_decides_only_that_one_does(example: Callable[[str], dict[str, Any]]) -> None:
    (source,) = blocks("Workflows", "python")
    made = example(source)
    host: AgentFrameworkHost = made["host"]

    async def say(who: str, **body: object) -> Reply:
        return await post_json(host.app, "/invocations", body, {"authorization": f"Bearer {made['auth'][who]}"})

    async with started(host):
        asked = (await say("shop", message="Refund 1002, it leaks")).json
        (pending,) = asked["pending"]
        answer = {"session_id": asked["session_id"], "responses": {pending["id"]: True}}
        assert (await say("shop", **answer)).status == 422
        assert (await say("manager", **{**answer, "session_id": "ses_" + "A" * 32})).status == 422
        decided = await say("manager", **answer)
    assert decided.json["response"] == "64.00 EUR are refunded for order 1002: a manager agreed."


def test_the_agent_that_the_examples_import_keeps_its_own_history(example: Callable[[str], dict[str, Any]]) -> None:
    agent = example(blocks("Your own agent", "python")[0])["agent"]
    assert isinstance(agent, Agent)
    assert agent.default_options.get("store") is False


@pytest.mark.parametrize(
    ("heading", "position"), [("Your own agent", 1), ("Platforms", 0), ("Platforms", 1)], ids=["server", "aws", "azure"]
)
def test_the_other_examples_build_what_they_are_about(
    heading: str, position: int, example: Callable[[str], dict[str, Any]]
) -> None:
    made = example(blocks(heading, "python")[position])
    assert isinstance(made["host"], AgentFrameworkHost)
    assert made["host"].state.durable
