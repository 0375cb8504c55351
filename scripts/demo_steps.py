"""What the demo shows on every platform: a conversation that goes on after the process that held it is gone."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from scripts.demo_deployment import Answer, Deployment
from scripts.demo_transcript import Transcript


class Step(NamedTuple):
    """A part of the demo that succeeds or fails by itself."""

    title: str
    run: Callable[[Deployment, Transcript], Awaitable[None]]


async def say(deployment: Deployment, transcript: Transcript, message: str, session: str = "tea") -> Answer:
    transcript.said("you", message)
    return answered(transcript, await deployment.call({"session_id": session, "message": message}))


async def approve(
    deployment: Deployment, transcript: Transcript, pending: str, who: str, session: str = "tea"
) -> Answer:
    transcript.said(who, "approved")
    return answered(transcript, await deployment.call({"session_id": session, "responses": {pending: True}}))


def answered(transcript: Transcript, answer: Answer) -> Answer:
    transcript.expect(answer.status == 200, f"HTTP {answer.status}: {answer.text[:200]}")
    asked: list[dict[str, Any]] = answer.body.get("pending", [])
    told = "; ".join(f"waits for approval: {describe(each)}" for each in asked) or str(answer.body["response"])
    transcript.said("agent", told, timing(answer))
    return answer


def timing(answer: Answer) -> str:
    return f"{'cold' if answer.cold else 'warm'} {answer.seconds * 1000:5.0f} ms"


def describe(pending: dict[str, Any]) -> str:
    """Name what is pending: its data is a tool call's, or what the workflow asks about."""
    data: dict[str, Any] = pending["data"]
    details = data["arguments"] if pending["kind"] == "tool_approval" else data
    subject = data["name"] if pending["kind"] == "tool_approval" else "a decision"
    return f"{subject} ({', '.join(f'{name}: {value}' for name, value in details.items())})"


def pending_of(transcript: Transcript, answer: Answer) -> str:
    asked: list[dict[str, Any]] = answer.body.get("pending", [])
    transcript.expect(len(asked) == 1, "one question should be pending")
    return asked[0]["id"]


async def kill(deployment: Deployment, transcript: Transcript) -> None:
    await deployment.kill()
    transcript.note("SIGKILL: the process is gone, the next turn starts a new one")


async def remember(deployment: Deployment, transcript: Transcript) -> None:
    await deployment.serve("agent")
    await say(deployment, transcript, "My name is Ada and my order is 1002.")
    await say(deployment, transcript, "What is in order 1003?")
    await kill(deployment, transcript)
    answer = await say(deployment, transcript, "What is my name, and where is my parcel?")
    transcript.expect("Your name is Ada." in answer.text and "order 1002 is on its way" in answer.text, "it forgot")


async def reset(deployment: Deployment, transcript: Transcript) -> None:
    await deployment.serve("agent")
    seconds = await deployment.reset("tea")
    transcript.note(f"another process resets the conversation ({seconds * 1000:.0f} ms with its start)")
    answer = await say(deployment, transcript, "What is my name?")
    transcript.expect("You have not told me" in answer.text, "it still remembers")


async def approval(deployment: Deployment, transcript: Transcript) -> None:
    await deployment.serve("agent")
    asked = await say(deployment, transcript, "Please refund order 1002 because it leaks.")
    pending = pending_of(transcript, asked)
    await kill(deployment, transcript)
    answer = await approve(deployment, transcript, pending, "you")
    transcript.expect("64.00 EUR are refunded for order 1002" in answer.text, "the refund was not made")


async def decision(deployment: Deployment, transcript: Transcript) -> None:
    await deployment.serve("workflow")
    asked = await say(deployment, transcript, "Refund order 1003: two cups are broken.", "cups")
    pending = pending_of(transcript, asked)
    await kill(deployment, transcript)
    answer = await approve(deployment, transcript, pending, "manager", "cups")
    transcript.expect("112.90 EUR are refunded for order 1003: a manager agreed." in answer.text, "no refund")


async def streaming(deployment: Deployment, transcript: Transcript) -> None:
    await deployment.serve("agent")
    await deployment.call({"message": "Hello"})
    message = "What is in order 1003 and where is its parcel?"
    transcript.said("you", f"{message} (streamed)")
    pieces = [piece async for piece in deployment.stream({"session_id": "stream", "message": message})]
    whole = "".join(piece.text for piece in pieces)
    words = re.findall(r"^data: .*$", whole, re.MULTILINE)
    transcript.expect("event: result" in whole and "data: [DONE]" in whole, f"the stream is not whole: {whole[-200:]}")
    if not deployment.platform.streams:
        transcript.note(f"buffered: {len(words)} data lines in one piece after {pieces[-1].seconds * 1000:.0f} ms")
        return
    transcript.pieces(pieces)
    first, last = pieces[0].seconds, pieces[-1].seconds
    transcript.expect(len(pieces) > 10, "the answer did not come in pieces")
    transcript.expect(last - first > 0.2, "the pieces came all at once")


async def across(deployments: Sequence[Deployment], transcript: Transcript) -> None:
    """Carry one conversation from platform to platform, on one state directory."""
    transcript.note(deployments[0].platform.name)
    await say(deployments[0], transcript, "My name is Ada and my order is 1002.")
    for previous, deployment in pairwise(deployments):
        await previous.kill()
        transcript.note(deployment.platform.name)
        answer = await say(deployment, transcript, "What is my name, and where is my parcel?")
        transcript.expect("Your name is Ada." in answer.text and "order 1002 is on its way" in answer.text, "it forgot")


STEPS = (
    Step("remembers after the process is gone", remember),
    Step("forgets when it is told to", reset),
    Step("a tool approval, answered in a new process", approval),
    Step("a workflow's question, answered in a new process", decision),
    Step("server-sent events", streaming),
)
