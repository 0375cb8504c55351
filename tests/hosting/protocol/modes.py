"""The kinds of turns that processes are killed and frozen in, and what each leaves in its conversation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_framework_hosting import ChannelContext
from agent_framework_hosting.state.store import StateStore
from tests.hosting.protocol.diary import LARGE, Diary, nothing, read_diary, request
from tests.hosting.protocol.questions import answer_all_questions, asking, read_words, waiting_questions


@dataclass(frozen=True)
class Mode:
    """`operations` are those of the turn on its store, the last of which saves it; `how` is for `take_turn`."""

    operations: int
    how: Mapping[str, Any] = field(default_factory=dict[str, Any])
    before: tuple[str, ...] = ("before",)
    word: str = "word"

    @property
    def is_workflow(self) -> bool:
        return bool(self.how.get("workflow"))

    @property
    def asks(self) -> bool:
        return self.word.startswith("ask")

    def target(self) -> Any:
        return target_of(self.how)

    async def begin(self, context: ChannelContext, key: str) -> dict[str, Any]:
        """Bring a conversation to where the turn comes, and tell how it is taken."""
        how = dict(self.how)
        for word in self.before:
            hosted = await context.run(request(key, word))
            if hosted.pending:
                how["responses"] = {pending.id: self.word for pending in hosted.pending}
        return how

    def after(self, words: list[str]) -> list[str]:
        """The words of the conversation once the turn is saved."""
        return [] if self.how.get("reset") else [*words, self.word]

    def answer(self, words: list[str]) -> list[str]:
        """What the turn says where it is saved after `words`; a question's id comes after that."""
        if self.how.get("reset"):
            return ["reset"]
        number = f"{len(words) + 1}:"
        updates = [number, f" {self.word}"] if self.how.get("stream") else []
        return [*updates, f"{number} {self.word}"]

    async def say(self, context: ChannelContext, key: str, word: str) -> str:
        """Take another turn, of one word, and give the answer."""
        return text_of((await context.run(request(key, word))).result)

    async def read(self, store: StateStore, key: str) -> list[str]:
        """What is stored of a conversation."""
        return await (read_words if self.is_workflow else read_diary)(store, key)

    async def check_questions(
        self, context: ChannelContext, store: StateStore, key: str, *, saved: bool, told: list[list[str]]
    ) -> None:
        """Make sure that the conversation waits for what it must, and that just this can be answered.

        `told` is what the turn said after its answer: nothing that is not kept.
        """
        if not self.is_workflow:
            assert told == []
            return
        waiting = await waiting_questions(store, key)
        assert len(waiting) == (self.asks if saved else self.before[-1].startswith("ask"))
        assert told in ([], [list(waiting)])
        await answer_all_questions(context, store, key)


MODES = {
    "once": Mode(3),
    "stream": Mode(3, {"stream": True}),
    "large": Mode(5, {"padding": LARGE}),
    "fresh": Mode(1, {"fresh": True}, before=()),
    "reset": Mode(4, {"reset": True}),
    "ask": Mode(5, {"workflow": True}, word="ask"),
    "answer": Mode(5, {"workflow": True}, before=("ask",)),
}


def target_of(how: Mapping[str, Any], between: Callable[[str], Awaitable[None]] = nothing) -> Any:
    """What takes a turn: an agent, or the factory of a workflow."""
    if how.get("workflow"):
        return lambda: asking(between)
    return Diary(between, padding=how.get("padding", 0))


def text_of(result: Any) -> str:
    """What an agent or a workflow has answered."""
    return result.text if hasattr(result, "text") else result.get_outputs()[-1]
