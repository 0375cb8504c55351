"""A turn with its state in a directory, against the least work that its protocol asks for."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent_framework import AgentSession, FileSessionStore, register_state_type
from agent_framework import Message as _Message
from agent_framework_hosting import AgentFrameworkHost, ChannelRequest, ChannelSession
from agent_framework_hosting.lifespan import Lifespan

from .measure import Block, Ratio, interleave
from .stubs import Probe, RememberingAgent
from .table import Row, compared, reported
