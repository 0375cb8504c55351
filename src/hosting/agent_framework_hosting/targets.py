"""What a host serves: an agent or a workflow, given as itself, by a factory, or by a builder."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from .errors import ConfigurationError
from .internals import UNNAMED, is_functional, is_workflow, is_workflow_agent, own_checkpoints

if TYPE_CHECKING:
    from agent_framework import SupportsAgentRun, Workflow

    from .running.run import Runner

logger = logging.getLogger("agent_framework.hosting")


def is_agent(value: object) -> TypeGuard[SupportsAgentRun]:
    return not isinstance(value, type) and callable(getattr(value, "run", None)) and hasattr(value, "create_session")


def workflow_of(target: object) -> Workflow | None:
    """Give the workflow behind a target, if there is one."""
    if is_workflow(target):
        return target
    return target.workflow if is_workflow_agent(target) else None


def builder_of(target: object) -> Callable[[], object] | None:
    """Give what builds a target's workflow, if it is a builder."""
    if isinstance(target, type) or is_agent(target) or is_workflow(target):
        return None
    build = getattr(target, "build", None)
    return build if callable(build) else None


class TargetSource:
    """Resolves a target at start-up, enters what is an async context manager, and makes the runner for it."""

    def __init__(self, target: object) -> None:
        refuse_functional(target)
        self._given = target
        self._resolved: object | None = target if is_agent(target) or is_workflow(target) else None
        if (build := builder_of(target)) is not None:
            # A factory whose first workflow is there to be checked before start-up.
            self._given = target = build
            self._resolved = build()
        self._stack = AsyncExitStack()
        if self._resolved is None and not callable(target):
            raise ConfigurationError(
                f"{type(target).__name__} is no target. Give an agent, a Workflow, a builder with build(), or a "
                "function that returns one."
            )

    @property
    def known(self) -> object | None:
        """The target itself, as far as it is known before start-up: None for a factory."""
        return self._resolved

    @property
    def target(self) -> SupportsAgentRun | Workflow:
        if self._resolved is None:
            raise ConfigurationError("The target comes from a factory, which is called at start-up.")
        return cast("SupportsAgentRun | Workflow", self._resolved)

    @property
    def description(self) -> str:
        known = self._resolved
        if known is None:
            return f"factory {getattr(self._given, '__qualname__', type(self._given).__name__)}"
        kind = "workflow" if is_workflow(known) else "agent"
        return f"{kind} {getattr(known, 'name', None) or type(known).__name__}"

    async def start(self) -> None:
        """Call the factory, on the serving loop, and enter the target."""
        if self._resolved is None:
            made = await self._make()
            refuse_functional(made)
            if not is_agent(made) and not is_workflow(made):
                raise ConfigurationError(f"The factory returned {type(made).__name__}, which is no agent or workflow.")
            self._resolved = made
        per_turn = self._from_factory and is_workflow(self._resolved)
        if not per_turn and hasattr(self._resolved, "__aenter__"):
            await self._stack.enter_async_context(cast("Any", self._resolved))

    async def close(self) -> None:
        """Leave the target; a later start calls its factory again."""
        await self._stack.aclose()
        if self._from_factory:
            self._resolved = None

    @property
    def _from_factory(self) -> bool:
        return self._resolved is not self._given

    async def _make(self) -> Any:
        made = cast("Any", self._given)()
        if inspect.isawaitable(made):
            made = await made
        build = builder_of(made)
        return made if build is None else build()

    async def runner(self) -> Runner:
        """Make the runner."""
        target = self._resolved
        workflow = workflow_of(target)
        if workflow is None:
            from .running.agents import AgentRunner

            return AgentRunner(cast("SupportsAgentRun", target))

        from .running.executors import forgetful_executors
        from .running.instances import SharedWorkflow, WorkflowFactory
        from .running.workflows import WorkflowRunner

        if forgetful := forgetful_executors(workflow):
            logger.warning(
                "The executors %s do not save what they keep in attributes: it is lost between turns of different "
                "processes, and shown to other conversations wherever turns run on the same object. Add "
                "on_checkpoint_save() and on_checkpoint_restore(), and give the host a function that constructs the "
                "workflow.",
                ", ".join(forgetful),
            )
        if is_workflow(target) and self._from_factory:
            return WorkflowRunner(await WorkflowFactory.capture(self._make, workflow))
        shared = await SharedWorkflow.capture(workflow)
        if is_workflow_agent(target):
            from .running.workflow_agents import WorkflowAgentRunner

            return WorkflowAgentRunner(target, shared)
        return WorkflowRunner(shared)


class TwoCheckpointStorages(ConfigurationError, RuntimeError):
    """A workflow keeps its checkpoints itself, and the host would, too."""


def refuse_functional(target: object) -> None:
    """Refuse a functional workflow, in whatever form.

    Raises:
        ConfigurationError: It is one.
    """
    if is_functional(target):
        raise ConfigurationError(
            "A functional workflow keeps what it is doing in one object, where conversations would meet. Serve a "
            "workflow made with WorkflowBuilder, or an agent of your own whose run() builds one for each call."
        )


def check_workflow(workflow: Workflow, *, durable: bool, managed: bool) -> None:
    """Refuse a workflow whose state could not be kept.

    Raises:
        ConfigurationError: It has no name of its own, but its state outlives the process.
        RuntimeError: It was built with a checkpoint storage, and the host manages one too.
    """
    if durable and workflow.name.startswith(UNNAMED):
        raise ConfigurationError(
            "A workflow whose state is stored needs a name: WorkflowBuilder(name=…). An unnamed one gets another "
            "name in every process."
        )
    if managed and own_checkpoints(workflow) is not None:
        raise TwoCheckpointStorages(
            "The workflow has a checkpoint storage of its own and the host manages one as well. Build the workflow "
            "without checkpoint_storage, or leave out checkpoint_location and name only sessions in state_dir: "
            "state_dir={'sessions': …}."
        )
