"""How much structure a body may have: counted outside of strings, in time that grows with bytes alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.server.requests.body_limits import MOST_CONTAINERS, MOST_DEPTH, MOST_FIELDS, excess

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\[]{}:é', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='b"\\[{:', max_size=4), inner),
    max_leaves=30,
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_limits() -> None:
    full = b"[" + b",".join([b"{}"] * (MOST_CONTAINERS - 1)) + b"]"
    fields = b"{" + b",".join([b'"a":1'] * MOST_FIELDS) + b"}"
    for text in (nested(MOST_DEPTH), full, fields):
        assert excess([text]) is None
    for texts, words in (
        ([nested(MOST_DEPTH + 1)], "65 objects and lists in one another; at most 64 are allowed"),
        ([full, b"[]"], "16385 objects and lists; at most 16384 are allowed"),
        ([fields, b'{"a":1}'], "16385 fields; at most 16384 are allowed"),
        ([b"]" * 50, nested(MOST_DEPTH + 1)], "65 objects and lists in one another; at most 64 are allowed"),
    ):
        assert excess(texts) == words


def test_text_has_no_structure() -> None:
    text = '{"[\\\\' * 200_000 + ':"' * 200_000
    assert excess([json.dumps({"prompt": text, "stop": ["]", '"[']}).encode()]) is None


@pytest.mark.parametrize(
    "body",
    [b"", b'"' + b'\\"[' * 1_000_000, b"]" * 1_000_000, b'"\\', b'"[" ' * 100_000, b"\xff\x00[" * 40],
    ids=range(6),
)
def test_what_is_no_json_is_left_to_the_parser(body: bytes) -> None:
    assert excess([body]) is None


@given(VALUES)
def test_the_depth_of_any_json_is_found(value: object) -> None:
    wrapped = b"[" * (MOST_DEPTH - depth_of(value)) + json.dumps(value).encode() + b"]" * (MOST_DEPTH - depth_of(value))
    assert excess([wrapped]) is None
    assert "in one another" in excess([b"[" + wrapped + b"]"])


def depth_of(value: object) -> int:
    match value:
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
    return 0
