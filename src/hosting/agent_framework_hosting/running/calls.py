"""Function calls that a client must answer, and the results that it sends for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent_framework import AgentResponse, Content, Message

from ..errors import InvalidRequest
from ..outputs import own_tools
from .approvals import is_approval


def open_calls(result: object, agent: object) -> list[Content]:
    """Give the calls of a result that a client must answer: not the agent's own, nor those that ask for an approval."""
    if not isinstance(result, AgentResponse):
        return []
    contents = list(contents_of(result.messages))
    calls = [content for content in contents if content.type == "function_call"]
    if not calls:
        return calls
    answered = {content.call_id for content in contents if content.type == "function_result"}
    asked = [content.function_call for content in contents if is_approval(content)]
    answered |= {call.call_id for call in asked if call is not None}
    own = own_tools(agent)
    return [
        call
        for call in calls
        if call.call_id not in answered and not (call.hosted or call.informational_only) and call.name not in own
    ]


def answered_calls(messages: Sequence[Message], pending: Iterable[Mapping[str, Any]]) -> set[str]:
    """Name the calls that messages answer; `pending` are the contents that their conversation waits for.

    A call may also stand in the messages themselves, where a caller gives back what was said.

    Raises:
        InvalidRequest: A result answers no call.
    """
    results = {content.call_id or "" for content in contents_of(messages) if content.type == "function_result"}
    if not results:
        return results
    waiting = {item.get("call_id") for item in pending if item["type"] == "function_call"}
    waiting |= {content.call_id for content in contents_of(messages) if content.type == "function_call"}
    for call_id in sorted(results):
        if call_id not in waiting:
            raise InvalidRequest(
                "input", f"Nothing in this conversation waits for the output of call {call_id[:80]!r}."
            )
    return results


def contents_of(messages: Sequence[Message]) -> Iterator[Content]:
    for message in messages:
        yield from message.contents
