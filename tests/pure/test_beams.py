"""The rules of a beam search on made-up probabilities; against transformers they are tested in tests/cpu."""

import math

import pytest

from infergc.params import SamplingParams
from infergc.sched.beams import BeamRules, Beams, end_tokens
from infergc.sched.plan import TokenLogprobs

END = 9


def rules(**fields: object) -> BeamRules:
    defaults = {
        "width": 2, "ends": frozenset({END}), "length_penalty": 1.0, "early_stopping": False, "min_tokens": 0,
        "max_tokens": 5,
    }  # fmt: skip
    return BeamRules(**{**defaults, **fields})


def report(*probabilities: tuple[int, float]) -> TokenLogprobs:
    """What may follow, given as (token, probability), likeliest first."""
    ids, values = zip(*probabilities, strict=True)
    logs = tuple(map(math.log, values))
    return TokenLogprobs(logs[0], 1, ids, logs)


def test_the_best_of_all_continuations_go_on_best_first() -> None:
    beams = Beams(rules())
    first = beams.advance([report((1, 0.5), (2, 0.3), (3, 0.1), (4, 0.1))])
    assert first.survivors == [(0, 1), (0, 2)]
    second = beams.advance(
        [report((5, 0.4), (6, 0.3), (7, 0.2), (8, 0.1)), report((5, 0.9), (6, 0.05), (7, 0.03), (8, 0.02))]
    )
    assert second.survivors == [(1, 5), (0, 5)]  # 0.27 and 0.2


def test_equals_go_by_hypothesis_then_by_token() -> None:
    beams = Beams(rules(ends=frozenset()))
    assert beams.advance([report((7, 0.25), (3, 0.25), (5, 0.25), (1, 0.25))]).survivors == [(0, 1), (0, 3)]
    same = report((7, 0.25), (3, 0.25), (5, 0.25), (1, 0.25))
    assert beams.advance([same, same]).survivors == [(0, 1), (0, 3)]


def test_an_end_among_the_best_is_kept_and_another_goes_on() -> None:
    beams = Beams(rules())
    first = beams.advance([report((END, 0.6), (1, 0.2), (2, 0.1), (3, 0.1))])
    assert first.survivors == [(0, 1), (0, 2)]
    (ended,) = first.ended
    assert (ended.parent, ended.token, first.lost) == (0, END, 0)
    assert ended.score == ended.total == pytest.approx(math.log(0.6))


def test_an_end_beyond_the_best_is_not_kept() -> None:
    beams = Beams(rules())
    first = beams.advance([report((1, 0.5), (2, 0.3), (END, 0.15), (3, 0.05))])
    assert first.ended == []


def test_ends_are_not_taken_before_the_least_tokens() -> None:
    beams = Beams(rules(min_tokens=1))
    assert beams.rules.reported == 5, "one more, for the end that is not allowed"
    first = beams.advance([report((END, 0.6), (1, 0.2), (2, 0.1), (3, 0.05), (4, 0.05))])
    assert (first.ended, first.survivors) == ([], [(0, 1), (0, 2)])


def ended_twice(early_stopping: object, length_penalty: float = 1.0) -> Beams:
    """Two texts have ended, with probabilities 0.3 and 0.24; what runs has 0.6 x 0.59 and 0.3 x 0.59."""
    beams = Beams(rules(early_stopping=early_stopping, length_penalty=length_penalty, max_tokens=50))
    beams.advance([report((1, 0.6), (END, 0.3), (2, 0.05), (3, 0.05))])
    beams.advance(
        [report((2, 0.59), (END, 0.4), (3, 0.005), (4, 0.005)), report((2, 0.5), (3, 0.3), (4, 0.1), (5, 0.1))]
    )
    return beams


def test_true_stops_once_enough_have_ended() -> None:
    assert ended_twice(True).over
    assert not ended_twice(False).over
    assert not ended_twice("never").over


def test_false_looks_at_what_runs_as_it_is_and_never_at_what_it_could_become() -> None:
    certain = report((2, 0.9), (3, 0.05), (4, 0.03), (END, 0.02))
    unlikely = report((2, 1e-3), (3, 1e-4), (4, 1e-5), (END, 1e-6))
    hasty, thorough = ended_twice(False, length_penalty=0.0), ended_twice("never", length_penalty=0.0)
    assert not hasty.over
    for beams in (hasty, thorough):
        beams.advance([unlikely, unlikely])
        assert beams.over, "without a length penalty a text only becomes less likely"
    hasty, thorough = ended_twice(False, length_penalty=3.0), ended_twice("never", length_penalty=3.0)
    for _ in range(3):
        hasty.advance([certain, certain])
        thorough.advance([certain, certain])
    assert not thorough.over, "long texts are favoured, and there is room"


def test_all_end_at_the_longest() -> None:
    beams = Beams(rules(max_tokens=1))
    result = beams.advance([report((1, 0.5), (2, 0.3), (3, 0.1), (4, 0.1))])
    assert beams.over
    assert [one.token for one in result.ended] == [1, 2]
    assert result.survivors == []


def test_better_texts_displace_worse_ones() -> None:
    beams = Beams(rules(length_penalty=0.0))
    first = beams.advance([report((1, 0.59), (END, 0.21), (2, 0.2), (3, 0.001))])
    assert [one.token for one in first.ended] == [END]
    second = beams.advance(
        [report((END, 0.9), (2, 0.05), (3, 0.03), (4, 0.02)), report((END, 0.8), (2, 0.1), (3, 0.05), (4, 0.05))]
    )
    assert [round(math.exp(one.total), 3) for one in second.ended] == [0.531]
    assert second.lost == 0
    assert beams.over


def test_the_ends_of_a_request() -> None:
    assert end_tokens(SamplingParams(stop_token_ids=[4]), [1, 2]) == {1, 2, 4}
    assert end_tokens(SamplingParams(stop_token_ids=[4], ignore_eos=True), [1, 2]) == {4}
