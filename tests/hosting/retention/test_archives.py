"""What a reset has put aside, as this release and earlier ones write it."""

from __future__ import annotations

import json

import pytest

from agent_framework_hosting.state.archives import decode_archive, encode_archive
from tests.hosting.retention.written import NOW, bare_session


def test_an_archive_holds_its_session_and_when_it_was_put_aside() -> None:
    session = bare_session("🦊")
    archive = decode_archive(encode_archive("🦊", NOW, session))
    assert archive is not None and (archive.key, archive.when) == ("🦊", NOW)
    assert json.loads(bytes(archive.snapshot)) == json.loads(session)


def test_an_archive_of_an_earlier_release_is_the_session_itself() -> None:
    archive = decode_archive(bare_session("k"))
    assert archive is not None and (archive.key, archive.when) == ("k", 0.0)
    assert bytes(archive.snapshot) == bare_session("k")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"format": 2, "key": "k", "when": 1, "snapshot": {}}', b'{"format": 1}']
)
def test_what_is_no_archive_of_this_format_is_none(data: bytes) -> None:
    assert decode_archive(data) is None
