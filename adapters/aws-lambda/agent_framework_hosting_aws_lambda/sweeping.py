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

NAMESPACE = "AgentFrameworkHosting"
SURVEY = 5.0
"""Seconds in which the figures are found, or left out."""

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


async def sweep(updates: HostUpdates, *, until: float) -> dict[str, bool]:
    """Wake every conversation with unfinished updates, until a time of the loop's clock at most.

    Raises:
        StateUnavailable: The store did not answer.
        TimeoutError: It took too long.
    """
    async with asyncio.timeout_at(until):
        await updates.sweep()
    try:
        async with asyncio.timeout(SURVEY):
            write_metrics(await updates.survey())
    except (HostingError, TimeoutError) as error:
        # The sweep itself is done; an alarm on missing figures is what tells.
        logger.warning("It could not be found out how long updates wait: %s", error)
    return {"swept": True}


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
