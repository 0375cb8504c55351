"""From a result to the JSON of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from agent_framework import AgentResponse, AgentResponseUpdate

from agent_framework_hosting import HostedRunResult
from agent_framework_hosting.jsonable import plain
from agent_framework_hosting.surrogates import utf8

if TYPE_CHECKING:
    from agent_framework import WorkflowRunResult


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


def outputs_of(result: WorkflowRunResult) -> list[object]:
    """Collect a workflow's outputs in the order in which they were complete.

    A streamed run of an agent inside it gives many updates where the same run, not streamed, gives one response:
    they are one output, too.
    """
    outputs: dict[object, object] = {}
    runs: dict[str | None, int] = {}
    for position, event in enumerate(result):
        if event.type == "executor_completed":
            runs[event.executor_id] = runs.get(event.executor_id, 0) + 1
        elif event.type == "output":
            data: object = event.data
            if isinstance(data, AgentResponseUpdate):
                run = (event.executor_id, runs.get(event.executor_id, 0), data.response_id)
                outputs[run] = f"{outputs.pop(run, '')}{data.text}"
            else:
                outputs[position] = data
    return list(outputs.values())


def scrub(value: Any) -> Any:
    """Put U+FFFD for lone surrogates, which some models' split output holds."""
    if isinstance(value, str):
        return utf8(value).decode()
    if isinstance(value, list):
        return [scrub(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {scrub(key): scrub(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


encoder = msgspec.json.Encoder(enc_hook=plain)
