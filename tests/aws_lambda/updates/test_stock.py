"""Accepted updates on the stock runtime: worked on before the response, and never a conversation held on return."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from emulators.lambda_runtime import LambdaEmulator
from tests.aws_lambda.updates.clients import (
    PING,
    SWEEP,
    Mailroom,
    message,
    responses,
    webhook,
)
from tests.aws_lambda.updates.handlers import Stock, fail, hang, response
from tests.support.receivers import Receiver


def test_an_update_is_worked_on_before_the_response(stock: Stock) -> None:
    stock.start()
    assert stock.send("m-1", "tea") == 202
    assert stock.replies("tea") == ["1: hello"]
    assert stock.send("m-1", "tea") == 202
    assert stock.send("m-2", "tea", sequence=2) == 202
    assert stock.replies("tea") == ["1: hello", "2: hello"]
    stock.at_rest("tea", turns=2)


def test_an_update_that_fails_is_left_on_hold_and_the_response_stands(stock: Stock) -> None:
    stock.start()
    stock.act = fail
    began = time.monotonic()
    assert stock.send("m-1", "tea") == 202
    assert time.monotonic() - began < 2  # Nobody waits for the end of its back-off.
    assert stock.attempts("tea") == [1]


@pytest.mark.parametrize("stays", [False, True])
def test_an_update_that_does_not_end_is_stopped_in_time_to_answer(
    stock: Stock, stays: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stock.start()
    stock.act = stock.stay if stays else hang
    assert stock.send("m-1", "tea", seconds=1.5) == 202
    assert stock.attempts("tea") == [1]
    assert "did not end" in caplog.text
    stock.act = None
    # The conversation is nobody's: another process may go on at once with what comes next.
    stock.start()
    assert stock.invoke(PING) == {"ready": True}
    assert stock.attempts("tea") == [1]


def test_an_update_that_always_takes_too_long_is_set_aside(stock: Stock) -> None:
    stock.start(attempts=1)
    stock.act = hang
    assert stock.send("m-1", "tea", seconds=1) == 202
    [update] = asyncio.run(stock.mailroom.set_aside("tea"))
    assert (update.id, update.attempts) == ("m-1", 1)
    stock.act = None
    assert stock.send("m-2", "tea", sequence=2) == 202
    assert stock.replies("tea") == ["1: hello"]
    stock.at_rest("tea", turns=1)


def test_a_sweep_finds_all_and_writes_its_figures(stock: Stock, capsys: pytest.CaptureFixture[str]) -> None:
    stock.start()

    async def accept() -> None:
        for number in range(20):
            await stock.mailroom.accept(stock.origin, "m-1", f"tea-{number}")

    asyncio.run(accept())
    assert stock.invoke(SWEEP) == {"swept": True}
    assert sorted(reply["conversation"] for reply in stock.taken) == sorted(f"tea-{number}" for number in range(20))
    line = json.loads(next(line for line in capsys.readouterr().out.splitlines() if "_aws" in line))
    assert 0 <= line["OldestUpdateAge"] < 60
    assert line["SetAsideUpdates"] == 0
    assert stock.invoke(SWEEP) == {"swept": True}
    line = json.loads(capsys.readouterr().out)
    assert (line["OldestUpdateAge"], line["SetAsideUpdates"]) == (0.0, 0)


def test_a_response_in_the_background_is_made_before_the_answer(stock: Stock) -> None:
    stock.start()
    made = response(stock.invoke(responses("POST", body={"input": "hello", "background": True})))
    assert made["status"] == "queued"
    whole = response(stock.invoke(responses("GET", f"/{made['id']}")))
    assert (whole["status"], whole["output"][0]["content"][0]["text"]) == ("completed", "1: hello")


@pytest.mark.needs("lambda-emulator")
async def test_on_the_real_stock_runtime_the_reply_is_there_with_the_response(
    tmp_path: Path, lambda_emulator: Path
) -> None:
    async with Receiver() as agent, Receiver() as replies:
        env = {
            "AGENT": agent.origin,
            "REPLY_ORIGIN": replies.origin,
            "STATE_DIR": str(tmp_path / "state"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        handler = "tests.aws_lambda.updates.stock.handler"
        async with LambdaEmulator(handler, binary=lambda_emulator, cwd=tmp_path, env=env) as function:
            result = await function.invoke(webhook(message(replies.origin, "m-1", "tea")))
            assert result["statusCode"] == 202
            assert [json.loads(received.body)["answer"] for received in replies.received] == ["1: hello"]
            mailroom = Mailroom(env["STATE_DIR"])
            await mailroom.check_at_rest("tea", turns=1)
            await mailroom.accept(replies.origin, "m-1", "milk")
            assert await function.invoke(SWEEP) == {"swept": True}
            assert len(replies.received) == 2
            await mailroom.check_at_rest("milk", turns=1)
            begun = await function.invoke(responses("POST", body={"input": "hello", "background": True}))
            whole = await function.invoke(responses("GET", f"/{json.loads(begun['body'])['id']}"))
            assert json.loads(whole["body"])["status"] == "completed"
