"""Shows one agent on AWS Lambda and on Azure Functions, remembering across cold starts: `python -m scripts.demo`.

Everything is real but the cloud: the emulators, the runtimes, the processes and their ends. The chat client is the
sample's offline one, so that the demo needs no key and answers the same each time.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from scripts.demo_deployment import Deployment
from scripts.demo_platforms import AwsLambda, AzureFunctions, OwnLambda, Platform
from scripts.demo_steps import STEPS, across
from scripts.demo_transcript import Transcript

PLATFORMS: tuple[Platform, ...] = (AwsLambda(), OwnLambda(), AzureFunctions())
ACROSS = "one conversation on one state directory"
STEP_SECONDS = 60.0


async def attempt(title: str, where: str, transcript: Transcript, work: Callable[[], Awaitable[None]]) -> None:
    transcript.step(title)
    try:
        async with asyncio.timeout(STEP_SECONDS):
            await work()
        transcript.shown += 1
    except Exception as error:
        transcript.fail(f"{where}: {title}", error)


async def show_platform(platform: Platform, state_dir: Path, transcript: Transcript) -> None:
    if (lack := platform.lacking()) is not None:
        transcript.platform(platform.name)
        transcript.lack(f"{platform.name}: {len(STEPS)} steps not shown for want of {lack}")
        return
    transcript.platform(f"{platform.name}: {platform.runtime}, Python {sys.version.partition(' ')[0]}")
    async with Deployment(platform, state_dir) as deployment:
        for step in STEPS:
            await attempt(step.title, platform.name, transcript, partial(step.run, deployment, transcript))


async def show_across(state_dir: Path, transcript: Transcript) -> None:
    transcript.platform(", then ".join(platform.name for platform in PLATFORMS))
    for platform in PLATFORMS:
        if (lack := platform.lacking()) is not None:
            transcript.lack(f"{ACROSS}: not shown for want of {lack}")
            return
    async with AsyncExitStack() as stack:
        key = secrets.token_urlsafe(18)
        deployments = [
            await stack.enter_async_context(Deployment(platform, state_dir, key=key)) for platform in PLATFORMS
        ]
        await attempt(ACROSS, "both", transcript, partial(across, deployments, transcript))


async def main() -> int:
    began = time.perf_counter()
    transcript = Transcript()
    print("cold: from the start of a new process to its first answer; warm: the call alone")
    with tempfile.TemporaryDirectory(prefix="hosting-demo-") as folder:
        for platform in PLATFORMS:
            await show_platform(platform, Path(folder, type(platform).__name__), transcript)
        await show_across(Path(folder, "shared"), transcript)
    return transcript.close(time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
