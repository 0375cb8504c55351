"""What a target gave: a workflow's outputs, their contents, and which calls an agent runs itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from agent_framework import AgentResponse, AgentResponseUpdate, Content, Message

if TYPE_CHECKING:
    from agent_framework import WorkflowRunResult

__all__ = ["contents_of", "outputs_of", "own_tools"]


def outputs_of(result: WorkflowRunResult) -> list[object]:
    """Collect a workflow's outputs in the order in which they were complete.

    A streamed run of an agent inside it gives many updates where the same run, not streamed, gives one
    `AgentResponse`: they are one output, and an `AgentResponse`, too.
    """
    outputs: dict[object, object] = {}
    streamed: dict[object, list[AgentResponseUpdate]] = {}
    runs: dict[str | None, int] = {}
    for position, event in enumerate(result):
        if event.type == "executor_completed":
            runs[event.executor_id] = runs.get(event.executor_id, 0) + 1
        elif event.type == "output":
            data: object = event.data
            if isinstance(data, AgentResponseUpdate):
                run = (event.executor_id, runs.get(event.executor_id, 0), data.response_id)
                outputs[run] = outputs.pop(run, None)
                streamed.setdefault(run, []).append(data)
            else:
                outputs[position] = data
    for run, updates in streamed.items():
        outputs[run] = AgentResponse.from_updates(updates)
    return list(outputs.values())


def contents_of(data: object) -> list[Content]:
    """Give what an output holds of texts and contents, which is what its update in a stream has."""
    if isinstance(data, str):
        return [Content.from_text(data)]
    if isinstance(data, Content):
        return [data]
    if isinstance(data, Message | AgentResponseUpdate):
        return list(data.contents)
    if isinstance(data, AgentResponse):
        return [content for message in data.messages for content in message.contents]
    if isinstance(data, list):
        return [content for item in cast("list[object]", data) for content in contents_of(item)]
    return []


def own_tools(target: object) -> set[str]:
    """Name the tools that an agent runs itself.

    Where a model asks for one of those and for a client's function at once, the framework runs neither: it runs its own
    when the client's output has come.
    """
    from agent_framework import FunctionTool, RawAgent

    if not isinstance(target, RawAgent):
        return set()
    tools = cast("list[object]", target.default_options.get("tools") or [])  # pyright: ignore[reportUnknownMemberType]
    own = {tool.name for tool in tools if isinstance(tool, FunctionTool) and not tool.declaration_only}
    return own | {function.name for server in target.mcp_tools for function in server.functions}
