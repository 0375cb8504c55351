"""Isolation keys name one conversation each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_framework_hosting import InvalidRequest, isolation_key
from agent_framework_hosting.keys import check_key, conversation_path

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
TRICKY = st.sampled_from(["", "%", ":", "::", "%3A", "a:b", "a%3Ab", "%25", "/", "None", "\0", "é", "e\u0301"])
PARTS = st.lists(st.none() | TRICKY | TEXTS, min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("a", "b"), "a:b"),
        (("a", "b:c"), "a:b%3Ac"),
        (("a", None), "a:"),
        (("a", ""), "a:%"),
        (("%",), "%25"),
        (("tg", "-100@x.y~z_1"), "tg:-100@x.y~z_1"),
        (("ä b/c",), "%C3%A4%20b%2Fc"),
    ],
)
def test_keys_are_joined_parts(parts: tuple[str | None, ...], key: str) -> None:
    assert isolation_key(*parts) == key


def test_a_key_has_parts() -> None:
    with pytest.raises(TypeError, match="at least one part"):
        isolation_key()


@given(PARTS, PARTS)
def test_different_parts_give_different_keys(one: list[str | None], other: list[str | None]) -> None:
    assert (isolation_key(*one) == isolation_key(*other)) is (one == other)


@given(PARTS)
def test_a_key_is_a_valid_key_and_plain(parts: list[str | None]) -> None:
    key = isolation_key(*parts)
    assert check_key(key) is key and key.isascii() and key.isprintable()


@given(TEXTS, TEXTS)
def test_paths_differ_and_stay_inside(one: str, other: str) -> None:
    path = conversation_path(one)
    assert (path == conversation_path(other)) is (one == other)
    assert len(path) == 67 and path[:2] == path[3:5] and set(path) <= set("0123456789abcdef/")


@given(st.text(st.characters(categories=("Cs",)), min_size=1), TEXTS)
def test_lone_surrogates_are_refused(half: str, text: str) -> None:
    for call in (isolation_key, check_key, conversation_path):
        with pytest.raises((InvalidRequest, UnicodeEncodeError)):
            call(text + half)
    with pytest.raises(InvalidRequest, match="surrogates"):
        isolation_key("a", half)
