"""What the host takes from inside the framework is still there, and means what it did."""

from __future__ import annotations

import gc
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Never

import pytest
from agent_framework import (
    AgentSession,
    Content,
    InMemoryCheckpointStorage,
    Message,
    Workflow,
    WorkflowAgent,
    WorkflowCheckpoint,
    WorkflowContext,
    register_checkpoint_type,
    register_state_type,
    workflow,
)

from agent_framework_hosting.internals import (
    EXECUTOR_STATES,
    UNNAMED,
    decode_value,
    encode_value,
    executor_states,
    is_functional,
    is_taken,
    is_workflow,
    is_workflow_agent,
    own_checkpoints,
    shared_state,
    types_with_codec,
    unfinished_run,
    workflow_logger,
)
from tests.support.targets import (
    Memory,
    Question,
    ScriptedAgent,
    chat_workflow,
    memory_builder,
    memory_workflow,
    recalling_agent,
)

register_checkpoint_type(Question)


def functional() -> Any:
    @workflow
    async def echo(text: str) -> str:
        return text

    return echo


THINGS: dict[str, Callable[[], Any]] = {
    "workflow": memory_workflow,
    "workflow agent": lambda: chat_workflow().as_agent("chat"),
    "functional": functional,
    "functional workflow": lambda: functional().build(),
    "functional agent": lambda: functional().build().as_agent(),
    "builder": memory_builder,
    "framework's agent": recalling_agent,
    "agent": ScriptedAgent,
    "class": lambda: Workflow,
    "class of agents": lambda: WorkflowAgent,
    "executor": Memory,
    "text": lambda: "workflow",
    "nothing": lambda: None,
}
each = pytest.mark.parametrize("kind", THINGS)
pytestmark = pytest.mark.filterwarnings("ignore:.FUNCTIONAL_WORKFLOWS")


@each
def test_a_workflow_is_told_from_other_things(kind: str) -> None:
    assert is_workflow(THINGS[kind]()) is (kind == "workflow")


@each
def test_a_workflow_agent_is_told_from_other_things(kind: str) -> None:
    assert is_workflow_agent(THINGS[kind]()) is (kind == "workflow agent")


@each
def test_what_is_functional_is_told_from_other_things(kind: str) -> None:
    assert is_functional(THINGS[kind]()) is kind.startswith("functional")


def test_telling_them_apart_does_not_import_the_engine() -> None:
    script = """
import sys
from agent_framework_hosting.internals import is_functional, is_workflow, is_workflow_agent
print(is_workflow(0), is_workflow_agent(0), is_functional(0), "agent_framework" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["False"] * 4


def test_the_storage_that_a_workflow_was_built_with_is_found() -> None:
    storage = InMemoryCheckpointStorage()
    assert own_checkpoints(memory_workflow(checkpoint_storage=storage)) is storage
    assert own_checkpoints(memory_workflow()) is None


async def test_a_run_is_unfinished_until_it_is_read_or_closed() -> None:
    made = memory_workflow()
    assert unfinished_run(made) is None
    run = made.run("x", stream=True)
    assert unfinished_run(made) is run
    async for _ in run:
        assert unfinished_run(made) is run
    assert unfinished_run(made) is None
    run = made.run("y", stream=True)
    await anext(aiter(run))
    with pytest.raises(Exception, match="already running"):
        made.run("z")
    unfinished = unfinished_run(made)
    assert unfinished is not None and unfinished is run
    await unfinished.close()
    assert unfinished_run(made) is None


async def test_a_run_that_nobody_has_any_more_is_not_unfinished() -> None:
    made = memory_workflow()
    run = made.run("x", stream=True)
    assert unfinished_run(made) is not None
    del run
    gc.collect()
    assert unfinished_run(made) is None


async def checkpoint_of(
    made: Workflow, text: str, storage: InMemoryCheckpointStorage, **how: Any
) -> WorkflowCheckpoint:
    await made.run(text, checkpoint_storage=storage, **how)
    checkpoint = await storage.get_latest(workflow_name="memory")
    assert checkpoint is not None
    return checkpoint


async def test_a_checkpoint_holds_what_its_executors_saved() -> None:
    checkpoint = await checkpoint_of(memory_workflow(), "x", InMemoryCheckpointStorage())
    assert executor_states(checkpoint) == {"memory": {"heard": ["nothing", "x"]}}
    checkpoint.state.clear()
    assert executor_states(checkpoint) == {}


class Sharing(Memory):
    """Shares something under a name that looks like one of the engine's."""

    async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        ctx.set_state("_mine", text)


async def test_what_executors_share_is_told_from_the_engines_own_entries() -> None:
    checkpoint = await checkpoint_of(
        memory_workflow(Sharing()), "x", InMemoryCheckpointStorage(), function_invocation_kwargs={"user": "ada"}
    )
    assert shared_state(checkpoint) == {"_mine": "x"}
    assert {"_mine", EXECUTOR_STATES} < checkpoint.state.keys(), "the engine has more than one entry"


@dataclass
class Stranger:
    """Not registered."""

    name: str


@dataclass
class Badge:
    """Registered for sessions."""

    name: str

    def to_dict(self) -> dict[str, str]:
        return {"name": self.name}

    @classmethod
    def from_dict(cls, given: dict[str, str]) -> Badge:
        return cls(given["name"])


register_state_type(Badge, type_id="tests.badge")


def restored(value: Any) -> Any:
    """Give what the framework makes of a value in a session that was stored."""
    session = AgentSession()
    session.state["value"] = value
    return AgentSession.from_dict(json.loads(json.dumps(session.to_dict()))).state["value"]


def test_what_a_session_gives_back_as_it_was_has_a_codec() -> None:
    assert Badge in types_with_codec() and restored(Badge("x")) == Badge("x")
    assert Stranger not in types_with_codec() and dict not in types_with_codec()


def test_a_dictionary_with_the_name_of_a_registered_type_is_taken_for_one() -> None:
    for name, taken in (("tests.badge", True), ("tests.nobody", False)):
        given = {"type": name, "name": "x"}
        assert is_taken(name) is taken
        assert restored(given) == (Badge("x") if taken else given)
    assert not is_taken(7) and not is_taken(None)


STRANGER = f"{__name__}:Stranger"
VALUES: dict[str, Any] = {
    "plain": [None, True, 1, 1.5, "a", {"b": []}],
    "of the library": datetime(2024, 2, 29, tzinfo=UTC),
    "registered": Question("x"),
    "of the framework": Message("user", [Content.from_text("x")]),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("allowed", [(), {STRANGER}, None])
def test_values_come_back_from_json(kind: str, allowed: Any) -> None:
    value = {"value": VALUES[kind]}
    decoded = decode_value(json.loads(json.dumps(encode_value(value))), allowed=allowed)
    assert shown(decoded) == shown(value)


def shown(value: dict[str, Any]) -> Any:
    """Give what compares by value: a message does not."""
    return {name: item.to_dict() if isinstance(item, Message) else item for name, item in value.items()}


def test_a_type_that_is_not_registered_comes_back_only_where_it_is_allowed() -> None:
    encoded = encode_value([Stranger("x")])
    with pytest.raises(Exception, match=f"blocked for type '{re.escape(STRANGER)}'"):
        decode_value(encoded, allowed=())
    for allowed in ([STRANGER], None):
        assert decode_value(encoded, allowed=allowed) == [Stranger("x")]


def test_what_cannot_be_pickled_is_not_encoded() -> None:
    with pytest.raises(Exception, match="lambda"):
        encode_value([lambda: None])


def test_a_workflow_without_a_name_is_known_by_the_one_it_gets() -> None:
    one, other = memory_workflow(name=None).name, memory_workflow(name=None).name
    assert one.startswith(UNNAMED) and other.startswith(UNNAMED) and one != other
    assert not memory_workflow().name.startswith(UNNAMED)


async def test_the_logger_of_a_workflow_warns_when_a_restore_replaces_questions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage = InMemoryCheckpointStorage()
    made = memory_workflow()
    checkpoint = await checkpoint_of(made, "ask", storage)
    assert not caplog.records
    await made.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=storage)
    (warning,) = caplog.records
    assert (warning.name, warning.levelno) == (workflow_logger().name, logging.WARNING)
    assert "a checkpoint restore" in warning.getMessage() and "still pending" in warning.getMessage()


def test_nothing_else_looks_inside_the_framework() -> None:
    root = Path(__file__).parents[2]
    inside = re.compile(r"agent_framework\._|reportPrivateUsage")
    sources = [path for place in ("src", "adapters") for path in (root / place).rglob("*.py")]
    assert [path.name for path in sources if inside.search(path.read_text())] == ["internals.py"]
