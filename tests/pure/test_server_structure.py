"""How much structure a body may have: counted outside of strings, in time that grows with bytes alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.server.errors import ApiError
from infergc.server.requests.structure import MOST_CONTAINERS, MOST_DEPTH, MOST_FIELDS, check_structure

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\[]{}:é', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='b"\\[{:', max_size=4), inner),
    max_leaves=30,
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_limits() -> None:
    check_structure(nested(MOST_DEPTH))
    check_structure(b"[" + b",".join([b"{}"] * (MOST_CONTAINERS - 1)) + b"]")
    check_structure(b"{" + b",".join([b'"a":1'] * MOST_FIELDS) + b"}")
    for body, what in (
        (nested(MOST_DEPTH + 1), "in one another"),
        (b"[" + b",".join([b"{}"] * MOST_CONTAINERS) + b"]", "objects and lists; at most"),
        (b"{" + b",".join([b'"a":1'] * (MOST_FIELDS + 1)) + b"}", "fields; at most"),
    ):
        with pytest.raises(ApiError, match=what) as refused:
            check_structure(body)
        assert refused.value.code == "body_too_complex"


def test_text_has_no_structure() -> None:
    text = '{"[\\\\' * 200_000 + ':"' * 200_000
    check_structure(json.dumps({"prompt": text, "stop": ["]", '"[']}).encode())


@pytest.mark.parametrize(
    "body",
    [b"", b'"' + b'\\"[' * 1_000_000, b"]" * 1_000_000, b'"\\', b'"[" ' * 100_000, b"\xff\x00[" * 40],
    ids=range(6),
)
def test_what_is_no_json_is_left_to_the_parser(body: bytes) -> None:
    check_structure(body)


@given(VALUES)
def test_the_depth_of_any_json_is_found(value: object) -> None:
    wrapped = b"[" * (MOST_DEPTH - depth_of(value)) + json.dumps(value).encode() + b"]" * (MOST_DEPTH - depth_of(value))
    check_structure(wrapped)
    with pytest.raises(ApiError):
        check_structure(b"[" + wrapped + b"]")


def depth_of(value: object) -> int:
    match value:
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
    return 0
