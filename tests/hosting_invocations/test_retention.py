"""Stored answers say when they were stored, so that a prune removes the old ones."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from agent_framework_hosting.state.documents import all_names
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.retention import Pruner
from agent_framework_hosting.state.store import ScopedStore, read
from agent_framework_hosting_invocations.answers import RepeatableCall, StoredAnswers

DAY = 86_400.0
CALL = RepeatableCall("ada", "invocations:ada:tea", "key", "digest")


async def test_an_old_answer_goes_and_a_young_one_stays() -> None:
    store = MemoryStore()
    for days, key in ((31, "old"), (29, "young")):
        answers = StoredAnswers(ScopedStore(store, "d/invocations"), clock=lambda days=days: (1000 - days) * DAY)
        await answers.keep(msgspec.structs.replace(CALL, key=key), b'{"response":"yes"}')
    assert len(await all_names(store, "d/")) == 2
    pruner = Pruner([store], retention=timedelta(days=30), clock=lambda: 1000 * DAY)
    assert (await pruner.run()).documents == 1
    answers = StoredAnswers(ScopedStore(store, "d/invocations"), wait=0)
    assert await answers.find(msgspec.structs.replace(CALL, key="young")) == b'{"response":"yes"}'
    assert await answers.find(msgspec.structs.replace(CALL, key="old")) is None


async def test_an_answer_of_an_earlier_release_is_read_and_kept() -> None:
    store = MemoryStore()
    documents = ScopedStore(store, "d/invocations")
    await StoredAnswers(documents).keep(CALL, b'{"response":"yes"}')
    found = await read(documents, CALL.name)
    assert found is not None
    undated = msgspec.json.decode(found[0])
    assert undated.pop("when") > 0
    await documents.put(CALL.name, msgspec.json.encode(undated))
    await Pruner([store], retention=timedelta(seconds=1)).run()
    assert await StoredAnswers(documents, wait=0).find(CALL) == b'{"response":"yes"}'
