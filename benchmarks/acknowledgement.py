"""The acknowledgement of an update on AWS Lambda: from a webhook's event to its 202, in process.

Against the three requests of its protocol, all at once, by bare obstore calls: put the update, get the conversation's
head, list its mailbox. The rest is our own time: the event, the signature, the app, the channel. S3 is moto on this
machine, whose times say nothing about AWS; and the inbox is one that nothing is sent to.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting.state.locations import locate
from agent_framework_hosting.state.object_places import S3Place
from agent_framework_hosting_aws_lambda import LambdaHandler
from emulators.lambda_events import Event, HttpRequest, function_url
from scripts.workspace import ROOT

from .measure import Block, interleave
from .places import Place, moto
from .stubs import FixedAgent
from .table import Row, bounded, reported

if TYPE_CHECKING:
    from agent_framework_hosting.state.object_places import Client

SECRET = "benchmark-secret-" * 3
ROUNDS, CALLS = 40, 10
OWN = 0.005


class Silent:
    async def wake(self, isolation_key: str, *, delay: float = 0) -> None: ...


def measure() -> list[Row]:
    sys.path += [str(ROOT / "samples"), str(ROOT / "samples" / "webhook_channel")]
    with moto() as place:
        ours, bare = Ours(place), Bare(place)
        try:
            samples = interleave({"ours": ours.block, "bare": bare.block}, rounds=ROUNDS)
        finally:
            ours.handler.close()
            bare.runner.close()
    own = statistics.median(ours - bare for ours, bare in zip(samples["ours"], samples["bare"], strict=True))
    return [
        reported("an acknowledgement on Lambda, moto", statistics.median(samples["ours"])),
        reported("its three requests at once by obstore, moto", statistics.median(samples["bare"])),
        bounded("our own time in an acknowledgement", max(0.0, own), bound=OWN),
    ]


class Ours:
    """Sends webhooks to a handler, each with an id and in a conversation of its own."""

    def __init__(self, place: Place) -> None:
        from webhook_channel.signatures import Signatures
        from webhook_channel.webhook import WebhookChannel

        channel = WebhookChannel(Signatures([SECRET]), reply_origin="http://127.0.0.1")
        host = AgentFrameworkHost(FixedAgent(), channels=[channel], state_dir=place.below("ours"), inbox=Silent())
        self.handler = LambdaHandler(host)
        self.numbers = itertools.count()
        self.context: Any = SimpleNamespace(function_name="benchmark", aws_request_id="1", memory_limit_in_mb="512")

    def event(self) -> Event:
        from webhook_channel.signatures import SIGNATURE, TIMESTAMP, sign

        number = str(next(self.numbers))
        body = json.dumps({"id": number, "conversation": number, "sequence": 1, "message": "Where is it?"}).encode()
        stamp = str(int(time.time()))
        headers = [
            ("content-type", "application/json"),
            (TIMESTAMP, stamp),
            (SIGNATURE, sign(SECRET, stamp, body)),
        ]
        return function_url(HttpRequest("POST", "/webhook", headers=headers, body=body))

    def block(self) -> float:
        events = [self.event() for _ in range(CALLS)]
        began = time.perf_counter()
        for event in events:
            result: Any = self.handler(event, self.context)
            if result["statusCode"] != 202:
                raise RuntimeError(f"The update was not accepted: {result}")
        return (time.perf_counter() - began) / CALLS


class Bare:
    """What no implementation of the protocol can do without, and nothing else."""

    def __init__(self, place: Place) -> None:
        located = locate(place.below("bare"), "place")
        assert isinstance(located, S3Place)
        self.client: Client = located.connect(3.0).client
        self.root = located.root
        self.runner = asyncio.Runner()
        self.data = os.urandom(400)

    @property
    def block(self) -> Block:
        return lambda: self.runner.run(self.some())

    async def some(self) -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            path = f"{self.root}{os.urandom(8).hex()}"
            await asyncio.gather(self.put(path), self.get(path), self.list(path))
        return (time.perf_counter() - began) / CALLS

    async def put(self, path: str) -> None:
        await self.client.put_async(f"{path}/in", self.data, use_multipart=False)

    async def get(self, path: str) -> None:
        try:
            await self.client.get_async(f"{path}/head")
        except FileNotFoundError:
            return

    async def list(self, path: str) -> None:
        async for _ in self.client.list(prefix=path):  # pyright: ignore[reportUnknownMemberType]
            return
