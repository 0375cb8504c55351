"""The schedule's invocation: wakes what no other wake has told of, and writes how long updates wait.

The figures are one line of CloudWatch's embedded metric format (Specification: Embedded metric format), which alarms
are set on: nothing is called for them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING

from agent_framework_hosting import HostingError

if TYPE_CHECKING:
    from agent_framework_hosting.host_updates import HostUpdates
    from agent_framework_hosting.state.letters import Survey

    from .budget import Budget

NAMESPACE = "AgentFrameworkHosting"
SURVEY = 5.0
"""Seconds in which the figures are found, or left out."""

PART = 0.5
"""The part of the time that a sweep may take: the rest is for the work on what it finds."""

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


async def sweep(updates: HostUpdates, budget: Budget) -> dict[str, bool]:
    """Wake every conversation with unfinished updates; `swept` is false where there was no time for all of them.

    Raises:
        StateUnavailable: The store did not answer.
        HostingError: An inbox could not be told of some.
    """
    now = asyncio.get_running_loop().time
    swept = True
    try:
        async with asyncio.timeout_at(now() + PART * (budget.work - now())):
            await updates.sweep()
    except TimeoutError:
        # Those that were found are worked on, and do not keep the next sweep from the others.
        logger.warning("There was no time to look for all unfinished updates: give the function a longer time-out.")
        swept = False
    try:
        async with asyncio.timeout_at(min(now() + SURVEY, budget.work)):
            write_metrics(await updates.survey())
    except (HostingError, TimeoutError) as error:
        # The sweep itself is done; an alarm on missing figures is what tells.
        logger.warning("It could not be found out how long updates wait: %s", error or "no time")
    return {"swept": swept}


def write_metrics(survey: Survey) -> None:
    metrics = [
        {"Name": "OldestUpdateAge", "Unit": "Seconds"},
        {"Name": "SetAsideUpdates", "Unit": "Count"},
    ]
    line = {
        "_aws": {
            "Timestamp": int(time.time() * 1000),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": metrics}],
        },
        "FunctionName": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        "OldestUpdateAge": round(survey.oldest, 1),
        "SetAsideUpdates": survey.set_aside,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
