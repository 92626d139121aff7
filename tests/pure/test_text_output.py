"""A request's output: tokens in, text out, with every way to end."""

from dataclasses import astuple
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.params import SamplingParams
from infergc.text.output import TextStream
from infergc.text.tokenizer import Tokenizer
from samples import tokenizer_dirs
from samples.tokenizer_dirs import EOS, TEXT


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.load(tokenizer_dirs.save("byte-level", Path(mkdtemp())))


def ids(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False)


def stream(**params: object) -> TextStream:
    return TextStream(tokenizer(), SamplingParams(max_tokens=1000, **params))


def run(tokens: list[int], sizes: list[int], output: TextStream, finish: str = "length"):
    """Push tokens in deltas of these sizes (repeated): text, tokens counted, finish, reason."""
    text, used, at, turn = "", 0, 0, 0
    while at < len(tokens):
        size = sizes[turn % len(sizes)]
        last = at + size >= len(tokens)
        delta = output.push(tokens[at : at + size], finish if last else "")
        text, used, at, turn = text + delta.text, used + delta.tokens, at + size, turn + 1
        if delta.finish_reason:
            return text, used, delta.finish_reason, delta.stop_reason
    raise AssertionError("the text did not end")


sizes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(st.sampled_from(TEXT), sizes)
def test_all_text_arrives(text, deltas):
    assert run(ids(text), deltas, stream()) == (text, len(ids(text)), "length", None)
    assert run(ids(text), deltas, stream(stop=["nowhere in it"])) == (text, len(ids(text)), "length", None)


@given(sizes, st.booleans(), st.integers(0, 12))
def test_a_stop_string_ends_the_text_wherever_deltas_are_cut(deltas, include, min_tokens):
    text = "one. two. three. four. five. six."
    params = SamplingParams(max_tokens=1000, min_tokens=min_tokens, stop=[". "], include_stop_str_in_output=include)
    tokens = ids(text)
    expected = next(
        n for n in range(min_tokens + 1, len(tokens) + 1)
        if ". " in tokenizer().decode(tokens[:n])[len(tokenizer().decode(tokens[: max(min_tokens, 1)])) - 1:]
    )  # fmt: skip
    shown, used, finish, reason = run(tokens, deltas, TextStream(tokenizer(), params))
    assert (used, finish, reason) == (expected, "stop", ". ")
    whole = tokenizer().decode(tokens[:expected])
    end = whole.rindex(". ") + (2 if include else 0)
    assert shown == whole[:end]


def test_a_stop_string_inside_a_token():
    tokens = ids("quick")
    assert len(tokens) < 5  # so that some token holds several letters
    assert astuple(stream(stop=["ic"]).push(tokens)) == ("qu", len(tokens), "stop", "ic")


def test_an_end_token_is_counted_and_not_shown():
    delta = stream(skip_special_tokens=False).push([*ids("fox"), 1], "stop")
    assert astuple(delta) == ("fox", len(ids("fox")) + 1, "stop", None)


def test_a_stop_id_is_counted_and_not_shown():
    tokens = ids("fox")
    delta = stream(stop_token_ids=[tokens[-1]]).push(tokens, "stop", tokens[-1])
    assert astuple(delta) == (tokenizer().decode(tokens[:-1]), len(tokens), "stop", tokens[-1])


def test_a_stop_id_is_shown_where_asked_for():
    tokens = ids("fox")
    delta = stream(stop_token_ids=[tokens[-1]], include_stop_str_in_output=True).push(tokens, "stop", tokens[-1])
    assert (delta.text, delta.stop_reason) == ("fox", tokens[-1])
    shown = stream(skip_special_tokens=False, include_stop_str_in_output=True).push([*tokens, 1], "stop")
    assert shown.text == "fox" + EOS


def test_a_stop_string_goes_before_an_end_token_in_the_same_delta():
    tokens = [*ids("a fox"), 1]
    assert astuple(stream(stop=["fox"]).push(tokens, "stop")) == ("a ", len(tokens) - 1, "stop", "fox")


@pytest.mark.parametrize("finish", ["length", "stop", "abort", "error"])
def test_what_was_held_back_comes_at_the_end(finish):
    output = stream(stop=["fox trot"])
    assert output.push(ids("a fox")).text == "a "
    assert astuple(output.push([1] if finish == "stop" else [], finish))[::2] == ("fox", finish)


def test_an_unfinished_character_comes_at_the_end():
    euro = [tokenizer()._backend.token_to_id(char) for char in "âĤ"]
    output = stream()
    assert output.push(euro).text == ""
    assert output.push([], "length").text == "\ufffd"


def test_after_the_end_nothing_counts():
    output = stream(stop=["fox"])
    output.push(ids("fox"))
    assert astuple(output.push(ids("more"), "abort")) == ("", 0, "stop", None)
