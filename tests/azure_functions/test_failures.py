"""What becomes of an agent that ends oddly: its call fails, and nothing else of the worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest

from tests.support.ends import CAUSES, ENDS, SECRET

from .conftest import EchoStarter

pytestmark = pytest.mark.needs("functions-worker")
ENDING = Path(__file__).parent / "apps" / "ending"


async def test_however_an_agent_ends_it_has_failed_and_the_worker_serves_on(
    start_echo: EchoStarter, mode: str, workspace: Path
) -> None:
    async with start_echo(mode, ENDING, PYTHONPATH=str(workspace)) as app, app.client() as client, asyncio.timeout(60):

        async def invoke(message: str, session: str, *, stream: bool = False) -> httpx2.Response:
            body = {"message": message, "session_id": session, "stream": stream}
            return await client.post("/invocations", json=body)

        for end in ENDS:
            for stream in (False, True):
                session = f"{end}-{stream}"
                assert (await invoke("x", session)).json()["response"] == "1: x"
                logged = len(app.worker.log)
                failed = await invoke(end, session, stream=stream)
                assert (failed.status_code, failed.headers["x-should-retry"]) == (500, "false"), session
                assert failed.json()["error"]["code"] == "target_failed"
                assert SECRET not in f"{failed.text} {failed.headers}"
                assert CAUSES.get(end, end) in app.worker.log[logged:]
                assert (await invoke("y", session)).json()["response"] == "2: y"
        assert app.worker.process.poll() is None
        assert app.worker.failures == []
