"""The refund workflow: small sums are paid at once, everything else waits for a manager, for days if need be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Never

from agent_framework import (
    Executor,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    register_checkpoint_type,
    response_handler,
)
from orders import ORDERS

SMALL_SUM = 20.00
NUMBER = re.compile(r"\b\d{4}\b")


@dataclass(frozen=True)
class RefundCase:
    """What a manager is asked; `amount` is in euros."""

    order_id: str
    amount: float
    reason: str
    risk: str


# A pause is stored as a checkpoint, and only registered types are read back from one.
register_checkpoint_type(RefundCase)


class RiskCheck(Executor):
    """Rates a request. Whoever asks again in the same conversation is never a small case."""

    def __init__(self) -> None:
        super().__init__(id="risk_check")
        self.asked: list[str] = []

    @handler
    async def check(self, request: str, ctx: WorkflowContext[RefundCase, str]) -> None:
        number = NUMBER.search(request)
        order = ORDERS.get(number[0]) if number is not None else None
        if number is None or order is None:
            await ctx.yield_output("Please name the order to refund by its four digits.")
            return
        again = bool(self.asked)
        self.asked.append(number[0])
        risk = "repeated" if again else "low" if order.price <= SMALL_SUM else "high"
        await ctx.send_message(RefundCase(number[0], order.price, request, risk))

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"asked": self.asked}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.asked = list(state.get("asked", ()))


class Manager(Executor):
    """Puts what is not small before a human: the answer is true or false, and may come to another process."""

    def __init__(self) -> None:
        super().__init__(id="manager")

    @handler
    async def decide(self, case: RefundCase, ctx: WorkflowContext[Never, str]) -> None:
        if case.risk == "low":
            await ctx.yield_output(f"{case.amount:.2f} EUR are refunded for order {case.order_id}: a small sum.")
        else:
            await ctx.request_info(case, bool)

    @response_handler
    async def decided(self, case: RefundCase, approved: bool, ctx: WorkflowContext[Never, str]) -> None:
        if approved:
            await ctx.yield_output(f"{case.amount:.2f} EUR are refunded for order {case.order_id}: a manager agreed.")
        else:
            await ctx.yield_output(f"Order {case.order_id} is not refunded: a manager declined.")


def build() -> Workflow:
    risk_check, manager = RiskCheck(), Manager()
    # The name is part of every checkpoint: without one, each process would have its own.
    builder = WorkflowBuilder(name="refund_review", start_executor=risk_check)
    return builder.add_edge(risk_check, manager).build()
