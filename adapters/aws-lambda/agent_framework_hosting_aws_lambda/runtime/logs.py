"""What is logged, with the id of the invocation that it belongs to, in the form that the function is set up for.

`AWS_LAMBDA_LOG_FORMAT` is `Text` or `JSON`, `AWS_LAMBDA_LOG_LEVEL` the least level (Configuring advanced logging
controls).
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from contextvars import ContextVar
from typing import NamedTuple, cast

OURS = "agent_framework.hosting"
TALKATIVE = ("httpcore", "httpx", "httpx2", "urllib3")
LEVELS = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}


class Ids(NamedTuple):
    request: str
    trace: str


class Latest:
    """The invocation that is being served, for whoever was begun without a context: threads mostly."""

    ids: Ids | None = None


_ids: ContextVar[Ids | None] = ContextVar("hosting_lambda_ids", default=None)


def note_ids(request: str, trace: str) -> None:
    """Say in which invocation the current context works, and the process."""
    Latest.ids = ids = Ids(request, trace)
    _ids.set(ids)


def forget_ids() -> None:
    """Say that the process works in no invocation; tasks that one has left behind still do."""
    Latest.ids = None


class TextFormat(logging.Formatter):
    """One line for a record: CloudWatch takes each line for an event of its own."""

    converter = time.gmtime

    def __init__(self) -> None:
        super().__init__(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(ids)s\t%(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )

    def format(self, record: logging.LogRecord) -> str:
        ids = _ids.get() or Latest.ids
        record.ids = "-" if ids is None else f"{ids.request} {ids.trace}".rstrip()
        return super().format(record).replace("\n", "\r")


class JsonFormat(logging.Formatter):
    """One JSON object for a record, with the fields that the stock runtime writes."""

    def format(self, record: logging.LogRecord) -> str:
        ids = _ids.get() or Latest.ids
        told: dict[str, object] = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        if ids is not None:
            told |= {"requestId": ids.request, "traceId": ids.trace}
        if record.exc_info and record.exc_info[0] is not None:
            told["errorType"] = record.exc_info[0].__name__
            told["stackTrace"] = self.formatException(record.exc_info).splitlines()
        return json.dumps(told)


def set_up_logging() -> None:
    """Log to standard output, as the platform collects it; our own loggers from INFO on, others from WARNING."""
    stream = sys.stdout
    # What is printed is not to wait for the next invocation, if there ever is one.
    cast(io.TextIOWrapper, stream).reconfigure(line_buffering=True)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormat() if os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON" else TextFormat())
    root = logging.getLogger()
    root.addHandler(handler)
    asked = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = logging.getLevelNamesMapping().get(LEVELS.get(asked, asked))
    if level is not None:
        root.setLevel(level)
    else:
        logging.getLogger(OURS).setLevel(logging.INFO)
    if root.level == logging.INFO:
        # Whole addresses: of some platforms those hold a bot's token.
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
