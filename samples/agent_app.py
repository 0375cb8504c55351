"""One small support agent, and one workflow with a human decision in it.

Nothing here knows where it runs: the folders beside this file put it on AWS Lambda, on Azure Functions and on a server.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

from agent_framework import Agent, ChatOptions, tool
from orders import ORDERS
from pydantic import Field
from settings import number

if TYPE_CHECKING:
    from agent_framework import SupportsChatGetResponse, Workflow

INSTRUCTIONS = (
    "You are the support agent of a small tea shop. Use the tools for anything about an order. "
    "Answer in one or two short sentences."
)
OrderId = Annotated[str, Field(pattern=r"^\d{4}$", description="number of the order, four digits")]


@tool
def look_up_order(order_id: OrderId) -> str:
    """Look up what an order contains and what it costs."""
    if (order := ORDERS.get(order_id)) is None:
        return f"There is no order {order_id}."
    return f"Order {order_id} is {order.content} for {order.price:.2f} EUR."


@tool
def track_parcel(order_id: OrderId) -> str:
    """Track the parcel of an order: its delivery status and when it arrives."""
    if (order := ORDERS.get(order_id)) is None:
        return f"There is no order {order_id}."
    return f"The parcel of order {order_id} is {order.status}."


@tool(approval_mode="always_require")
def refund_order(
    order_id: OrderId, reason: Annotated[str, Field(description="why the customer wants it")] = "not given"
) -> str:
    """Refund an order: pay the money back to the customer."""
    if (order := ORDERS.get(order_id)) is None:
        return f"There is no order {order_id}."
    return f"{order.price:.2f} EUR are refunded for order {order_id} (reason: {reason})."


def support_agent() -> Agent[Any]:
    """Build the agent. Its history lives in the session, so that the host can store it."""
    return Agent(
        client=chat_client(),
        name="support",
        instructions=INSTRUCTIONS,
        tools=[look_up_order, track_parcel, refund_order],
        # Without this OpenAI would keep the history, and the session only its id.
        default_options=ChatOptions(store=False),
    )


def refund_workflow() -> Workflow:
    """Build the workflow: refund request, risk check, a manager's decision, result."""
    # Imported late: an agent's cold start does not pay for workflows.
    from refund_review import build

    return build()


def chat_client() -> SupportsChatGetResponse[Any]:
    """Take OpenAI where `OPENAI_API_KEY` is set (also `OPENAI_BASE_URL`, `OPENAI_MODEL`), else the offline client.

    Raises:
        ConfigurationError: `OFFLINE_PACE` is no number of seconds.
    """
    if os.environ.get("OPENAI_API_KEY"):
        from agent_framework_openai import OpenAIChatClient

        return OpenAIChatClient(model=os.environ.get("OPENAI_MODEL", "gpt-4.1-mini"))
    from offline_client import OfflineChatClient

    return OfflineChatClient(pace=number("OFFLINE_PACE", 0.03, most=60.0))
