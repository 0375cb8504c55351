from __future__ import annotations

import pytest

from agent_framework_hosting_responses.ids import is_minted, mint

MINE = "resp_" + "0f" * 24


def test_minted_ids_are_random_and_of_the_minted_form() -> None:
    ids = {mint("resp") for _ in range(100)}
    assert len(ids) == 100
    assert all(is_minted("resp", each) for each in ids)
    assert mint("fc", random=lambda size: b"\x0f" * size) == "fc_" + "0f" * 24


@pytest.mark.parametrize(
    "text",
    ["", "resp", "resp_", MINE[:-1], MINE + "0", MINE + "\n", " " + MINE, MINE.upper(), "conv" + MINE[4:], MINE[5:]],
)
def test_nothing_else_is_minted(text: str) -> None:
    assert is_minted("resp", MINE)
    assert not is_minted("resp", text)


def test_digits_are_of_ascii() -> None:
    assert not is_minted("resp", "resp_" + "٣" * 48)
