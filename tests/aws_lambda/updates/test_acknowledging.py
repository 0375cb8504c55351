"""What an acknowledgement costs on S3, which is moto: the requests, and how many of them stand one after another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from emulators.object_stores import Moto
from tests.aws_lambda.updates.clients import taking_replies
from tests.aws_lambda.updates.handlers import Stock
from tests.support.proxy import Asked, FaultProxy, Reply

pytestmark = pytest.mark.needs("moto")
PATIENCE = 10.0


class Silent:
    async def wake(self, isolation_key: str, *, delay: float = 0) -> None: ...


@pytest.fixture
def proxy(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(urlsplit(moto.environment["AWS_ENDPOINT_URL_S3"]).port or 0) as proxy:
        environment = {**moto.environment, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield proxy


def test_an_acknowledgement_is_one_round_trip_to_the_store(proxy: FaultProxy) -> None:
    with taking_replies() as (origin, taken):
        stock = Stock(origin, taken, "s3://bucket/acknowledging")
        handler = stock.start(inbox=Silent())
        try:
            assert stock.send("m-1", "tea") == 202
            for _ in range(2):  # A repeat costs the same.
                proxy.clear()
                together = threading.Barrier(3)

                def when_all_are_there(asked: Asked, together: threading.Barrier = together) -> Reply:
                    together.wait(PATIENCE)
                    return asked.forward()

                # No one of them is answered before all have come.
                proxy.plan(when_all_are_there, times=None)
                assert stock.send("m-2", "tea", sequence=2) == 202
                assert sorted(proxy.log) == ["GET", "GET", "PUT"]
        finally:
            proxy.clear()
            handler.close()
            stock.handlers.clear()
        assert stock.heard == []
