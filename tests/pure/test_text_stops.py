"""Stop strings against an oracle that looks at the whole text after each character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.text.stops import StopScanner

words = st.text(alphabet="ab", max_size=30)  # few letters, so that stop strings overlap and repeat
stop_lists = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), min_size=1, max_size=4)


def oracle(text, stops, include, armed_from=0):
    """The output and the stop string, looking at every prefix of the text."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found and end > armed_from:
            stop = max(found, key=len)
            return text[: end if include else end - len(stop)], stop
    return text, None


def chunks(text, data):
    while text:
        size = data.draw(st.integers(1, len(text)))
        yield text[:size]
        text = text[size:]


@given(words, stop_lists, st.booleans(), st.data())
def test_equals_the_oracle_however_the_text_is_cut(text, stops, include, data):
    scanner = StopScanner(stops, include=include)
    out, match = "", None
    for chunk in chunks(text, data):
        part, match = scanner.push(chunk)
        out += part
        if match is not None:
            break
    if match is None:
        out += scanner.flush()
    assert (out, match) == oracle(text, stops, include)


@given(words, stop_lists, st.data())
def test_holds_back_only_what_may_become_a_stop_string(text, stops, data):
    scanner = StopScanner(stops)
    out, seen = "", ""
    for chunk in chunks(text, data):
        part, match = scanner.push(chunk)
        if match is not None:
            return
        out, seen = out + part, seen + chunk
        held = seen[len(out) :]
        beginnings = {stop[:n] for stop in stops for n in range(len(stop))}
        assert held == max((b for b in beginnings if seen.endswith(b)), key=len)


@given(words, stop_lists, st.booleans(), st.integers(0, 30))
def test_matches_do_not_count_before_it_is_armed(text, stops, include, armed_from):
    scanner = StopScanner(stops, include=include)
    out, match = "", None
    for at, char in enumerate(text):
        part, match = scanner.push(char, armed=at >= armed_from)
        out += part
        if match is not None:
            break
    if match is None:
        out += scanner.flush()
    assert (out, match) == oracle(text, stops, include, armed_from)


def test_the_first_to_be_completed_wins():
    assert StopScanner(["abcd", "bc"]).push("xabcdx") == ("xa", "bc")
    assert StopScanner(["bc", "abc"]).push("xabcx") == ("x", "abc")


def test_a_match_that_did_not_count_may_begin_one_that_does():
    scanner = StopScanner(["aba"])
    assert scanner.push("aba", armed=False) == ("ab", None)
    assert scanner.push("bac") == ("", "aba")


def test_without_stop_strings_nothing_is_held():
    assert StopScanner([]).push("text") == ("text", None)


@pytest.mark.parametrize("stop", [".", "\n\n", "[a-z]", "^", "😀"])
def test_characters_that_mean_something_in_patterns(stop):
    assert StopScanner([stop]).push(f"one{stop}two") == ("one", stop)
