"""A host on S3 that goes on from a snapshot (SnapStart): it has connected to nothing before, and works after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from emulators.object_stores import Moto
from tests.aws_lambda.updates.clients import SWEEP
from tests.aws_lambda.updates.deployed import OURS, STOCK, deployed
from tests.support.places import make_place
from tests.support.proxy import FaultProxy

pytestmark = pytest.mark.needs("moto")


@pytest.mark.parametrize("command", [OURS, STOCK], ids=["ours", "stock"])
async def test_a_host_on_s3_connects_after_the_restore_and_then_does_all_its_work(
    command: Sequence[str], tmp_path: Path, moto: Moto, request: pytest.FixtureRequest
) -> None:
    place = make_place("s3", request)
    with FaultProxy(urlsplit(moto.environment["AWS_ENDPOINT_URL_S3"]).port or 0) as proxy:
        env = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        }
        async with (
            deployed(tmp_path, place, freezes=True) as function,
            function.environment(command, **env) as process,
        ):
            await function.api.snapshot()
            assert process.frozen and proxy.log == []
            function.api.restore()
            call = function.send("m-1", "tea")
            assert (await call.answer()).status == 202
            await call.over()
            await function.accept("m-2", "tea", sequence=2)
            assert (await function.api.invoke(SWEEP).answer()).json == {"swept": True}
            await function.api.idle()
            assert function.replies("tea") == ["1: hello", "2: hello"]
            assert proxy.log
            await function.mailroom.check_at_rest("tea", turns=2)
