"""A queue of moto's, and what Lambda's event source mapping does with it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, cast

from agent_framework_hosting_aws_lambda.sqs import SqsInbox
from emulators.lambda_calls import REGION

PATIENCE = 20.0
ARN = "arn:aws:sqs:{region}:123456789012:{name}"


class Queue:
    """A queue, standard or FIFO. The environment must say where moto is."""

    def __init__(self, *, fifo: bool = False) -> None:
        import boto3

        client: Any = cast("Any", boto3).client("sqs", region_name="us-east-1")
        self.client = client
        self.name = f"wakes-{uuid.uuid4().hex}{'.fifo' if fifo else ''}"
        attributes = {"FifoQueue": "true"} if fifo else {}
        self.url: str = client.create_queue(QueueName=self.name, Attributes=attributes)["QueueUrl"]

    @property
    def inbox(self) -> SqsInbox:
        return SqsInbox(self.url)

    def bodies(self) -> list[str]:
        """Take what is due."""
        return [message["Body"] for message in self.receive()]

    def receive(self) -> list[dict[str, Any]]:
        found = self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, AttributeNames=["All"])
        return found.get("Messages", [])

    def delayed(self) -> int:
        return self._count("ApproximateNumberOfMessagesDelayed")

    def left(self) -> int:
        """How many messages there are: due, delayed, or taken and not deleted."""
        names = ("", "Delayed", "NotVisible")
        return sum(self._count(f"ApproximateNumberOfMessages{name}") for name in names)

    def _count(self, name: str) -> int:
        return int(self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])["Attributes"][name])

    async def trigger(self, invoke: Callable[[dict[str, Any]], Any]) -> list[str]:
        """Wait until messages are due, and invoke with them: what is not reported as failed is deleted.

        Gives the bodies of those that were reported, which are visible again.
        """
        messages: list[dict[str, Any]] = []
        give_up = time.monotonic() + PATIENCE
        while not messages:
            assert time.monotonic() < give_up, "The queue has nothing to deliver."
            messages = await asyncio.to_thread(self.receive)
            if not messages:
                await asyncio.sleep(0.1)  # A message's delay is of real seconds, and moto does not tell of its end.
        result = await invoke({"Records": [self._record(message) for message in messages]})
        failed = {failure["itemIdentifier"] for failure in result["batchItemFailures"]}
        for message in messages:
            named = {"QueueUrl": self.url, "ReceiptHandle": message["ReceiptHandle"]}
            if message["MessageId"] in failed:
                self.client.change_message_visibility(**named, VisibilityTimeout=0)
            else:
                self.client.delete_message(**named)
        return [message["Body"] for message in messages if message["MessageId"] in failed]

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        """Give a message as the event has it (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html)."""
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": ARN.format(region=REGION, name=self.name),
            "awsRegion": REGION,
        }
