"""Importing the host, the channel and the Lambda adapter, against what every such function imports anyway."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from .measure import Block, Ratio, interleave
from .table import Row, compared

BASE = """
from agent_framework import Agent, AgentResponse, AgentResponseUpdate, AgentSession, Content, Message
import starlette.applications, starlette.requests, starlette.responses, starlette.routing
import mangum
"""
OURS = """
from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_invocations import InvocationsChannel
from agent_framework_hosting_aws_lambda import LambdaHandler
"""
TIMED = """
from time import process_time
began = process_time()
{}
print(process_time() - began)
"""
ROUNDS = 20


def measure() -> list[Row]:
    """Time imports in fresh interpreters, with all bytecode in place; CPU time, since an import waits for nothing."""
    variants = {"base": BASE, "ours": OURS, "both": BASE + OURS}
    samples = interleave({name: importing(code) for name, code in variants.items()}, rounds=ROUNDS)
    show_heaviest()
    to = "Agent, its message types, starlette, mangum"
    ours, both = (Ratio.of(samples[name], samples["base"]) for name in ("ours", "both"))
    return [
        compared("import of host, invocations and Lambda adapter", ours, to=to, target=1.15),
        compared("the same on top of Agent and its message types", both, to=to, target=1.15),
    ]


def importing(code: str) -> Block:
    return lambda: float(python("-c", TIMED.format(code)).stdout)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        env=environ,
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        check=True,
    )


def show_heaviest(count: int = 12, runs: int = 3) -> None:
    """Print which modules our import adds to the base, by their own time without what they import in turn."""
    known = {name for name, _ in imported(BASE)}
    added: dict[str, int] = {}
    for _ in range(runs):
        for name, microseconds in imported(BASE + OURS):
            if name not in known:
                added[name] = min(microseconds, added.get(name, microseconds))
    print(f"  {len(added)} modules beyond the base, {sum(added.values()) / 1000:.1f} ms; the heaviest:")
    for name in sorted(added, key=lambda name: -added[name])[:count]:
        print(f"  {added[name] / 1000:6.2f} ms  {name}")


def imported(code: str) -> Sequence[tuple[str, int]]:
    """List the modules that some code imports, each with its own microseconds."""
    found: list[tuple[str, int]] = []
    for line in python("-X", "importtime", "-c", code).stderr.splitlines():
        own, bar, rest = line.removeprefix("import time:").partition("|")
        if bar and own.strip().isdigit():
            found.append((rest.partition("|")[2].strip(), int(own)))
    return found
