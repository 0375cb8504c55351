"""The README of the webhook sample, as a newcomer follows it: three terminals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from scripts.workspace import ROOT

PATIENCE = 60.0
FOLDER = ROOT / "samples" / "webhook_channel"
RECEIVER, AGENT = "http://127.0.0.1:8001", "http://127.0.0.1:8000"


def environment(**more: str) -> dict[str, str]:
    """A fresh terminal's."""
    mine = re.compile(r"OPENAI_|OFFLINE_|SAMPLE_|WEBHOOK_|REPLY_ORIGIN|STATE_DIR|.*_proxy$", re.IGNORECASE)
    return {**{name: value for name, value in os.environ.items() if not mine.match(name)}, **more}


def blocks() -> list[str]:
    section = (FOLDER / "README.md").read_text("utf-8").partition("## Run it\n")[2].partition("\n## ")[0]
    typed = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [block.replace("../../.venv/bin/", f"{Path(sys.executable).parent}/") for block in typed]


@contextmanager
def terminal(script: str) -> Iterator[IO[str]]:
    """Type lines that serve, give what they print, and end them with Ctrl-C; without patience for a silent one."""
    server = subprocess.Popen(
        ["sh", "-euc", script],
        cwd=FOLDER,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    patience = threading.Timer(PATIENCE, os.killpg, (server.pid, signal.SIGKILL))
    patience.start()
    try:
        assert server.stdout is not None
        yield server.stdout
        os.killpg(server.pid, signal.SIGINT)
        rest, _ = server.communicate(timeout=PATIENCE)
        assert "Traceback" not in rest
    finally:
        patience.cancel()
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def read_until(said: IO[str], pattern: str) -> re.Match[str]:
    lines: list[str] = []
    for line in said:
        lines.append(line)
        if (found := re.search(pattern, line)) is not None:
            return found
    pytest.fail(f"It ended without saying {pattern!r}:\n{''.join(lines)}")


@pytest.mark.needs("curl", "openssl")
def test_the_readme_does_what_it_says(tmp_path: Path) -> None:
    receive, serve, send = blocks()
    with terminal(receive.replace(":8001", ":0")) as received:
        receiver = read_until(received, r"http://127\.0\.0\.1:\d+")[0]
        serve = serve.replace(RECEIVER, receiver).replace("STATE_DIR=.state", f"STATE_DIR={tmp_path}/state")
        with terminal(serve.replace("serve app:host", "serve app:host --port 0")) as served:
            agent = read_until(served, r"http://127\.0\.0\.1:\d+")[0]
            typed = send.replace(RECEIVER, receiver).replace(AGENT, agent)
            sent = subprocess.run(
                ["sh", "-euc", typed],
                cwd=FOLDER,
                env=environment(WEBHOOK_URL=f"{agent}/webhook"),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
            assert sent.stdout.split() == ["Accepted.", "Accepted.", "202"]
            answers = {read_until(received, r"^(tea|cups): (.+)")[0] for _ in range(3)}
    assert any("your name is Ada" in answer for answer in answers)
    assert any("Your name is Ada" in answer and "on its way" in answer for answer in answers), "memory, and a tool"
    assert any(answer.startswith("cups: ") and "1003" in answer for answer in answers)


def test_a_setting_that_is_missing_is_named() -> None:
    command = [sys.executable, "-m", "agent_framework_hosting.cli", "serve", "app:host", "--port", "0"]
    for settings, named in (({}, "secrets"), ({"WEBHOOK_SECRETS": "s" * 32}, "reply_origin")):
        ran = subprocess.run(
            command, cwd=FOLDER, env=environment(**settings), capture_output=True, text=True, timeout=PATIENCE
        )
        assert ran.returncode == 1
        assert ran.stderr.startswith("af-hosting: ") and named in ran.stderr
        assert "Traceback" not in ran.stderr
