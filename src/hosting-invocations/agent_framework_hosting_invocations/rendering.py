"""From a result to the JSON of an answer."""

from __future__ import annotations

from typing import Any

import msgspec
from agent_framework import AgentResponse

from agent_framework_hosting import HostedRunResult
from agent_framework_hosting.jsonable import plain
from agent_framework_hosting.outputs import outputs_of
from agent_framework_hosting.surrogates import scrub


def render_answer(hosted: HostedRunResult[Any], session_id: str | None) -> bytes:
    """Encode `{"response", "session_id", "pending"?}`.

    Raises:
        NotJson: An output of a workflow has no JSON form.
    """
    answer: dict[str, Any] = {"response": response_of(hosted.result), "session_id": session_id}
    if hosted.pending:
        answer["pending"] = hosted.pending
    try:
        return encoder.encode(answer)
    except UnicodeEncodeError:
        return encoder.encode(scrub(msgspec.to_builtins(answer, enc_hook=plain)))


def response_of(result: object) -> object:
    """Give an agent's text; of a workflow its one output, a list of several, or None."""
    if isinstance(result, AgentResponse):
        return result.text
    if isinstance(result, list):
        from agent_framework import WorkflowRunResult

        if isinstance(result, WorkflowRunResult):
            outputs = outputs_of(result)
            return outputs[0] if len(outputs) == 1 else outputs or None
    return result  # pyright: ignore[reportUnknownVariableType]


encoder = msgspec.json.Encoder(enc_hook=plain)
