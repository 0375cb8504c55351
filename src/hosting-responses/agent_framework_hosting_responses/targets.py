"""What is known of the target before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from agent_framework_hosting import InvalidRequest

if TYPE_CHECKING:
    from agent_framework import Message, SupportsAgentRun, Workflow


def input_for(target: SupportsAgentRun | Workflow, said: str | list[Message]) -> str | list[Message]:
    """Give the input as a workflow takes it: to the API, a text and one message of it are the same.

    What fits in neither form is left as it is, for the host to refuse.
    """
    if not hasattr(target, "get_start_executor"):
        return said
    return input_for_workflow(cast("Workflow", target), said)


def input_for_workflow(workflow: Workflow, said: str | list[Message]) -> str | list[Message]:
    from agent_framework import Message, WorkflowMessage

    other = [Message("user", [said])] if isinstance(said, str) else text_of(said)
    start = workflow.get_start_executor()
    for form in (said, other):
        if form and start.can_handle(WorkflowMessage(data=form, source_id="responses", target_id=start.id)):
            return form
    return said


def text_of(messages: list[Message]) -> str | None:
    """Give the text of a user's only message, if that is all there is."""
    match messages:
        case [message] if message.role == "user" and [content.type for content in message.contents] == ["text"]:
            return message.text
        case _:
            return None


def model_name(target: SupportsAgentRun | Workflow) -> str:
    """Name what answers: the model that the agent was made with, or the target itself."""
    model = defaults_of(target).get("model")
    return model if isinstance(model, str) and model else target.name or target.id


def check_tools(options: Mapping[str, Any], target: SupportsAgentRun | Workflow) -> None:
    """Refuse functions of a client that have the name of one of the agent's own tools: which one is meant?

    Raises:
        InvalidRequest: There is one.
    """
    from agent_framework import FunctionTool

    declared = cast("Sequence[FunctionTool]", options.get("tools") or ())
    own = cast("Sequence[object]", defaults_of(target).get("tools") or ()) if declared else ()
    names = {tool.name for tool in own if isinstance(tool, FunctionTool)}
    for index, tool in enumerate(declared):
        if tool.name in names:
            raise InvalidRequest(
                f"tools[{index}].name", f"The agent has a tool {tool.name[:64]!r} itself: rename yours."
            )


def defaults_of(target: SupportsAgentRun | Workflow) -> Mapping[str, object]:
    """Give the options that an agent was made with; not every target has any."""
    options = getattr(target, "default_options", None)
    return cast("Mapping[str, object]", options) if isinstance(options, Mapping) else {}
