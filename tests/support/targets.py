"""Agents and workflows that need no model, for tests of what the host does with a target."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Never, Self

from agent_framework import (
    Agent,
    AgentResponse,
    AgentResponseUpdate,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    Executor,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    response_handler,
)


class ScriptedAgent:
    """Does in each run what `act` says: `act(messages, session)` gives the texts to stream, or raises.

    Without it the answer is `<turn>: <text>`, with the turn counted in the session.
    """

    id = "scripted"
    name: str | None = "scripted"
    description = "Does what it is told."

    def __init__(self, act: Callable[[list[Message], AgentSession | None], Any] | None = None) -> None:
        self.act = act or count
        self.heard: list[list[Message]] = []
        self.sessions: list[AgentSession | None] = []
        self.options: list[Any] = []

    def create_session(self, *, session_id: str | None = None) -> AgentSession:
        return AgentSession(session_id=session_id)

    def get_session(self, service_session_id: Any, *, session_id: str | None = None) -> AgentSession:
        return AgentSession(session_id=session_id, service_session_id=service_session_id)

    def run(
        self,
        messages: Any = None,
        *,
        stream: bool = False,
        session: AgentSession | None = None,
        options: Any = None,
    ) -> Any:
        self.options.append(options)
        updates = ResponseStream(self.updates(messages, session), finalizer=AgentResponse.from_updates)
        return updates if stream else updates.get_final_response()

    async def updates(
        self, messages: list[Message], session: AgentSession | None
    ) -> AsyncIterator[AgentResponseUpdate]:
        self.heard.append(messages)
        self.sessions.append(session)
        acted = self.act(messages, session)
        if inspect.isawaitable(acted):
            acted = await acted
        for text in [acted] if isinstance(acted, str) else acted:
            yield text_update(text)


def text_update(text: str) -> AgentResponseUpdate:
    return AgentResponseUpdate(contents=[Content.from_text(text)], role="assistant", message_id="m")


def count(messages: list[Message], session: AgentSession | None) -> list[str]:
    turn = 1
    if session is not None:
        turn = session.state["turns"] = session.state.get("turns", 0) + 1
    return [f"{turn}: ", messages[-1].text]


class ManagedAgent(ScriptedAgent):
    """An agent that is an async context manager and notes when it is entered and left."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    async def __aenter__(self) -> Self:
        self.events.append("entered")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.events.append("closed")


class ScriptedClient(FunctionInvocationLayer[Any], BaseChatClient[Any]):
    """A chat client that answers by `reply(messages)`: a text, or contents such as function calls."""

    def __init__(self, reply: Callable[[Sequence[Message]], str | list[Content]]) -> None:
        super().__init__()
        self.reply = reply
        self.asked: list[list[Message]] = []

    def _inner_get_response(self, *, messages: Sequence[Message], stream: bool, options: Any, **kwargs: Any) -> Any:
        if stream:
            return self._build_response_stream(self.stream(messages))
        return self.whole(messages)

    def contents(self, messages: Sequence[Message]) -> list[Content]:
        self.asked.append(list(messages))
        reply = self.reply(messages)
        return [Content.from_text(reply)] if isinstance(reply, str) else reply

    async def whole(self, messages: Sequence[Message]) -> ChatResponse:
        return ChatResponse(messages=Message("assistant", self.contents(messages)), response_id="r")

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[ChatResponseUpdate]:
        for content in self.contents(messages):
            yield ChatResponseUpdate(contents=[content], role="assistant", response_id="r")


def recall(messages: Sequence[Message]) -> str:
    """Answer with all that the user has said, so that what crosses between conversations shows."""
    return " | ".join(message.text for message in messages if message.role == "user" and message.text)


def recalling_agent(name: str = "recall") -> Agent[Any]:
    return Agent(client=ScriptedClient(recall), name=name)


@dataclass(frozen=True)
class Question:
    """What the workflows below ask."""

    about: str


class Busy(Executor):
    """Counts how often it runs at once. A text that begins with `wait` waits for `gate`, and says so by `waiting`."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.running = 0
        self.most_running = 0
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            yield
        finally:
            self.running -= 1

    async def hold(self, text: str) -> None:
        if text.startswith("wait"):
            self.waiting.set()
            await self.gate.wait()


class Memory(Busy):
    """Remembers in an attribute and in shared state; has checkpoint hooks.

    `fail…` raises, `wait…` waits for `gate`, `ask…` asks for a yes or no, `loop…` asks again after every answer.
    """

    def __init__(self, id: str = "memory") -> None:
        super().__init__(id)
        self.heard: list[str] = ["nothing"]

    @handler
    async def hear(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        with self.counted():
            await self.work(text, ctx)

    async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        self.heard.append(text)
        ctx.set_state("said", [*(ctx.get_state("said") or []), text])
        await ctx.yield_output("so: ")
        if text.startswith("fail"):
            raise ValueError("the workflow's own secret")
        await self.hold(text)
        if text.startswith(("ask", "loop")):
            await ctx.request_info(Question(text), bool)
        else:
            await ctx.yield_output(f"{'+'.join(self.heard)} & {'+'.join(ctx.get_state('said') or [])}")

    @response_handler
    async def answered(self, question: Question, answer: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{question.about}? {'yes' if answer else 'no'}, after {'+'.join(self.heard)}")
        if question.about.startswith("loop"):
            await ctx.request_info(question, bool)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"heard": list(self.heard)}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.heard = list(state["heard"])


class ForgetfulMemory(Memory):
    """The same without hooks."""

    on_checkpoint_save = Executor.on_checkpoint_save
    on_checkpoint_restore = Executor.on_checkpoint_restore


def memory_builder(executor: Executor | None = None, *, name: str | None = "memory", **how: Any) -> WorkflowBuilder:
    return WorkflowBuilder(name=name, start_executor=executor or Memory(), **how)


def memory_workflow(executor: Executor | None = None, *, name: str | None = "memory", **how: Any) -> Workflow:
    return memory_builder(executor, name=name, **how).build()


class ChatMemory(Busy):
    """As an agent's workflow: takes messages, remembers them in an attribute, and asks where the text says so."""

    def __init__(self, id: str = "chat") -> None:
        super().__init__(id)
        self.heard: list[str] = []

    @handler
    async def hear(self, messages: list[Message], ctx: WorkflowContext[Never, str]) -> None:
        with self.counted():
            await self.work(messages, ctx)

    async def work(self, messages: list[Message], ctx: WorkflowContext[Never, str]) -> None:
        text = messages[-1].text
        self.heard.append(text)
        if text.startswith("fail"):
            raise ValueError("the workflow's own secret")
        if text.startswith("wait"):
            await ctx.yield_output("waiting")
        await self.hold(text)
        if text.startswith("ask"):
            await ctx.request_info(Question(text), bool)
            return
        said = [message.text for message in messages if message.role == "user" and message.text]
        await ctx.yield_output(f"{'+'.join(self.heard)} & {'+'.join(said)}")

    @response_handler
    async def answered(self, question: Question, answer: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{question.about}? {'yes' if answer else 'no'}, after {'+'.join(self.heard)}")

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"heard": list(self.heard)}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.heard = list(state["heard"])


def chat_workflow(executor: Executor | None = None, *, name: str | None = "chat") -> Workflow:
    return WorkflowBuilder(name=name, start_executor=executor or ChatMemory()).build()


@dataclass
class Counted:
    """A factory that notes its calls and what it made."""

    make: Callable[[], Any]
    made: list[Any] = field(default_factory=list)
    loops: list[asyncio.AbstractEventLoop] = field(default_factory=list)

    def __call__(self) -> Any:
        self.loops.append(asyncio.get_running_loop())
        self.made.append(self.make())
        return self.made[-1]
