"""What an acknowledgement costs on S3, which is moto: the requests, and how many of them stand one after another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from emulators.object_stores import Moto
from tests.aws_lambda.updates.clients import taking_replies
from tests.aws_lambda.updates.deployed import deployed
from tests.aws_lambda.updates.handlers import Stock
from tests.support.places import StatePlace
from tests.support.proxy import Asked, FaultProxy, Reply

pytestmark = pytest.mark.needs("moto")
PATIENCE = 10.0


class Silent:
    async def wake(self, isolation_key: str, *, delay: float = 0) -> None: ...


@pytest.fixture
def proxy(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(urlsplit(moto.environment["AWS_ENDPOINT_URL_S3"]).port or 0) as proxy:
        for name, value in {**moto.environment, **behind(proxy)}.items():
            monkeypatch.setenv(name, value)
        yield proxy


def behind(proxy: FaultProxy) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}


def together(proxy: FaultProxy, count: int, *, times: int | None) -> None:
    """Have no one of so many requests answered before all have come."""
    all_there = threading.Barrier(count)

    def when_all_are_there(asked: Asked) -> Reply:
        all_there.wait(PATIENCE)
        return asked.forward()

    proxy.clear()
    proxy.plan(when_all_are_there, times=times)


def test_an_acknowledgement_is_one_round_trip_to_the_store(proxy: FaultProxy) -> None:
    with taking_replies() as (origin, taken):
        stock = Stock(origin, taken, "s3://bucket/acknowledging")
        handler = stock.start(inbox=Silent())
        try:
            assert stock.send("m-1", "tea") == 202
            for _ in range(2):  # A repeat costs the same.
                together(proxy, 3, times=None)
                assert stock.send("m-2", "tea", sequence=2) == 202
                assert sorted(proxy.log) == ["GET", "GET", "PUT"]
        finally:
            proxy.clear()
            handler.close()
            stock.handlers.clear()
        assert stock.heard == []


async def test_so_it_is_on_our_runtime_with_the_work_after_it(proxy: FaultProxy, moto: Moto, tmp_path: Path) -> None:
    place = StatePlace("s3", "s3://bucket/acknowledged", {**moto.environment, **behind(proxy)})
    async with deployed(tmp_path, place) as function, function.process():
        await function.send("m-1", "tea").over()
        hold = function.hold()
        together(proxy, 3, times=3)
        call = function.send("m-2", "tea", sequence=2)
        assert (await call.answer()).status == 202
        assert sorted(proxy.log[:3]) == ["GET", "GET", "PUT"]
        await hold.wait()
        hold.go()
        await call.over()
        assert function.replies("tea") == ["1: hello", "2: hello"]
        await function.mailroom.check_at_rest("tea", turns=2)
