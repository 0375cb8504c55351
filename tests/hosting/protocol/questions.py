"""A workflow that keeps a diary as the agent `Diary` does, and asks its user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from agent_framework import (
    Executor,
    Message,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    handler,
    response_handler,
)

from agent_framework_hosting import ChannelContext, HostedRunResult
from agent_framework_hosting.errors import InvalidRequest
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.checkpoints import StoredCheckpoints
from agent_framework_hosting.state.head import Checkpoint
from agent_framework_hosting.state.store import StateStore
from agent_framework_hosting.state.stored import StoredConversations
from tests.hosting.protocol.diary import LONG, nothing, request


class AskingDiary(Executor):
    """Writes down what it hears, in what it checkpoints; a word that starts with `ask` is asked back.

    The answer to that is written down like a word. `between(word)` is awaited before the answer.
    """

    def __init__(self, between: Callable[[str], Awaitable[None]] = nothing) -> None:
        super().__init__("diary")
        self.between = between
        self.words: list[str] = []

    @handler
    async def hear(self, word: str, context: WorkflowContext[Any, str]) -> None:
        self.words.append(word)
        await self.between(word)
        await context.yield_output(f"{len(self.words)}: {word}")
        if word.startswith("ask"):
            await context.request_info(word, str)

    @handler
    async def hear_messages(self, messages: list[Message], context: WorkflowContext[Any, str]) -> None:
        """The same as an agent's workflow."""
        await self.hear(messages[-1].text, context)

    @response_handler
    async def answered(self, question: str, answer: str, context: WorkflowContext[Any, str]) -> None:
        await self.hear(answer, context)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"words": list(self.words)}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.words = list(state["words"])


def asking(between: Callable[[str], Awaitable[None]] = nothing) -> Workflow:
    return WorkflowBuilder(name="asking", start_executor=AskingDiary(between)).build()


async def answer(context: ChannelContext, key: str, responses: dict[str, str]) -> HostedRunResult[Any]:
    return await context.run(replace(request(key, ""), input=None, responses=responses))


async def read_checkpoint(store: StateStore, key: str) -> WorkflowCheckpoint | None:
    """The checkpoint that a conversation goes on from."""
    conversations = StoredConversations(store, LONG)
    conversations.keeper = StoredCheckpoints(store)
    try:
        return (await conversations.peek(key))[1]
    except InvalidRequest:
        return None
    finally:
        await conversations.close()


async def read_words(store: StateStore, key: str) -> list[str]:
    checkpoint = await read_checkpoint(store, key)
    return [] if checkpoint is None else checkpoint.state["_executor_state"]["diary"]["words"]


async def waiting_questions(store: StateStore, key: str) -> set[str]:
    """The ids of the questions that a conversation waits for."""
    checkpoint = await read_checkpoint(store, key)
    return set() if checkpoint is None else set(checkpoint.pending_request_info_events)


async def all_questions(store: StateStore, key: str) -> set[str]:
    """The ids of the questions in every checkpoint that was written for a conversation, whether it counts or not."""
    names = await store.list(f"k/{conversation_path(key)}/c/")
    checkpoints = [await StoredCheckpoints(store).load(Checkpoint(name)) for name in names]
    return {question for checkpoint in checkpoints for question in checkpoint.pending_request_info_events}


async def answer_all_questions(context: ChannelContext, store: StateStore, key: str) -> None:
    """Make sure that what waits can be answered, once, and that nothing else can."""
    words, waiting = await read_words(store, key), await waiting_questions(store, key)
    for question in await all_questions(store, key):
        if question in waiting:
            words.append("answer")
            hosted = await answer(context, key, {question: "answer"})
            assert hosted.result.get_outputs() == [f"{len(words)}: answer"]
        with pytest.raises(InvalidRequest, match="waits for an answer"):
            await answer(context, key, {question: "again"})
    assert await waiting_questions(store, key) == set()
    assert await read_words(store, key) == words
