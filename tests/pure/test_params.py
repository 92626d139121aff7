"""Sampling parameters: bounds, what is accepted for convenience, and errors that name the field."""

import math
from dataclasses import FrozenInstanceError

import msgspec
import pytest

from infergc.engine.messages import Command, Submit
from infergc.params import MAX_COUNT, MAX_SEED, ParameterError, SamplingParams, check_token_ids

BOUNDS = {  # field: lowest, highest, just below, just above
    "max_tokens": (1, MAX_COUNT, 0, MAX_COUNT + 1),
    "min_tokens": (0, 16, -1, MAX_COUNT + 1),
    "temperature": (0, 100.0, -0.01, 100.1),
    "top_k": (-1, MAX_COUNT, -2, MAX_COUNT + 1),
    "top_p": (1e-9, 1, 0, 1.01),
    "min_p": (0, 1, -0.01, 1.01),
    "repetition_penalty": (0.01, 100, 0.009, 100.1),
    "presence_penalty": (-2, 2, -2.01, 2.01),
    "frequency_penalty": (-2, 2, -2.01, 2.01),
    "seed": (0, MAX_SEED, -1, MAX_SEED + 1),
    "logprobs": (0, 20, -1, 21),
    "n": (1, 4096, 0, 4097),
}


@pytest.mark.parametrize("field", BOUNDS)
def test_bounds(field):
    low, high, below, above = BOUNDS[field]
    for value in (low, high):
        assert getattr(SamplingParams(**{field: value}), field) == value
    for value in (below, above):
        with pytest.raises(ParameterError, match=rf"^{field}: .* is not allowed; it must be [≥>] ") as caught:
            SamplingParams(**{field: value})
        assert caught.value.field == field


@pytest.mark.parametrize("field", BOUNDS)
@pytest.mark.parametrize("value", ["1", True, math.nan, math.inf, -math.inf, 10**400, [], {}, 1j])
def test_what_is_no_number(field, value):
    with pytest.raises(ParameterError, match=f"^{field}: "):
        SamplingParams(**{field: value})


@pytest.mark.parametrize("field", ["max_tokens", "min_tokens", "top_k", "seed", "logprobs", "n", "beam_width"])
def test_integers(field):
    with pytest.raises(ParameterError, match=rf"^{field}: takes an integer, not 1\.0"):
        SamplingParams(**{field: 1.0})


@pytest.mark.parametrize("field", ["max_tokens", "seed", "logprobs"])
def test_none_where_it_means_something(field):
    assert getattr(SamplingParams(**{field: None}), field) is None


def test_none_where_it_does_not():
    with pytest.raises(ParameterError, match=r"^temperature: takes a number, not null"):
        SamplingParams(temperature=None)


def test_bounds_are_printed_exactly():
    with pytest.raises(ParameterError, match=f"≥ 0 and ≤ {MAX_SEED}"):
        SamplingParams(seed=MAX_SEED + 1)


@pytest.mark.parametrize("field", ["ignore_eos", "skip_special_tokens", "include_stop_str_in_output"])
def test_flags(field):
    with pytest.raises(ParameterError, match=f'^{field}: takes true or false, not "no"'):
        SamplingParams(**{field: "no"})


def test_lists_are_kept_as_tuples():
    params = SamplingParams(stop=["a", "b"], stop_token_ids=[1, 2])
    assert (params.stop, params.stop_token_ids) == (("a", "b"), (1, 2))
    assert SamplingParams(stop="ab").stop == ("ab",)
    params = SamplingParams(stop=None, stop_token_ids=None, logit_bias=None)
    assert (params.stop, params.stop_token_ids, params.logit_bias) == ((), (), {})


@pytest.mark.parametrize(
    "stop", ["", [""], "a\ud800", ["a", "\udfff"], ["a", 3], [None], list("abcdefghijklmnopq"), 5, {"a": 1}]
)
def test_stop_strings_that_are_not_allowed(stop):
    with pytest.raises(ParameterError, match=r"^stop: "):
        SamplingParams(stop=stop)


@pytest.mark.parametrize("ids", [[-1], ["1"], [True], [1.0], [MAX_COUNT + 1], 5, "12"])
def test_stop_ids_that_are_not_allowed(ids):
    with pytest.raises(ParameterError, match=r"^stop_token_ids: "):
        SamplingParams(stop_token_ids=ids)


@pytest.mark.parametrize(
    "bias", [{1: 101}, {1: -101}, {-1: 0}, {"1": 0}, {True: 0}, {1: "x"}, {1: math.nan}, {MAX_COUNT + 1: 0}, [1], 5]
)
def test_biases_that_are_not_allowed(bias):
    with pytest.raises(ParameterError, match=r"^logit_bias: "):
        SamplingParams(logit_bias=bias)


@pytest.mark.parametrize(
    ("most", "given", "message"),
    [
        ({"stop": ["a"] * 16}, {"stop": ["a"] * 17}, "stop: 17 are given; at most 16 are allowed"),
        ({"stop": "a" * 1024}, {"stop": "a" * 1025}, "stop: a string is 1025 characters long; at most 1024"),
        ({"stop": "a"}, {"stop": ""}, "stop: a stop string must not be empty"),
        ({"stop_token_ids": [1] * 1024}, {"stop_token_ids": [1] * 1025}, "stop_token_ids: 1025 are given; at most"),
        (
            {"logit_bias": dict.fromkeys(range(1024), 1)},
            {"logit_bias": dict.fromkeys(range(1025), 1)},
            "logit_bias: 1025 are given; at most 1024 are allowed",
        ),
    ],
)
def test_sizes_are_bounded(most, given, message):
    SamplingParams(**most)
    with pytest.raises(ParameterError, match=f"^{message}"):
        SamplingParams(**given)


def test_min_tokens_over_max_tokens():
    with pytest.raises(ParameterError, match=r"^min_tokens: 3 is over max_tokens \(2\)"):
        SamplingParams(min_tokens=3, max_tokens=2)
    assert SamplingParams(min_tokens=3, max_tokens=None).min_tokens == 3


def test_ids_outside_the_vocabulary():
    check_token_ids(SamplingParams(), 10)
    check_token_ids(SamplingParams(logit_bias={9: 1.0}, stop_token_ids=[9]), 10)
    with pytest.raises(ParameterError, match=r"^logit_bias: 10 is not a token id of this model; ids are 0 to 9"):
        check_token_ids(SamplingParams(logit_bias={10: 1.0}), 10)
    with pytest.raises(ParameterError, match=r"^stop_token_ids: 12"):
        check_token_ids(SamplingParams(stop_token_ids=[3, 12]), 10)


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        SamplingParams().seed = 1


def test_greedy():
    assert SamplingParams(temperature=0).greedy
    assert not SamplingParams(temperature=1e-9).greedy


def test_the_extremes_survive_the_wire():
    params = SamplingParams(
        max_tokens=MAX_COUNT, top_k=MAX_COUNT, seed=MAX_SEED, logprobs=20, stop=["a", "😀"],
        stop_token_ids=[MAX_COUNT], logit_bias={MAX_COUNT: -100.0}, temperature=0.3,
    )  # fmt: skip
    search = SamplingParams(n=2, use_beam_search=True, beam_width=4, length_penalty=-0.5, early_stopping="never")
    for sent in (Submit("r", [1, 2, 3], params), Submit("r", [1], search)):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=Command) == sent


def test_a_search_takes_its_own_fields_and_no_others():
    params = SamplingParams(n=2, use_beam_search=True, beam_width=4, length_penalty=-5, early_stopping="never")
    assert params.width == 4
    assert SamplingParams(n=3, use_beam_search=True, temperature=0).width == 3
    for field, value in (("beam_width", 0), ("length_penalty", 5.1), ("length_penalty", math.nan), ("n", 5)):
        with pytest.raises(ParameterError, match=f"^{field}: "):
            SamplingParams(**{"use_beam_search": True, "beam_width": 4, field: value})
    for field, value in (("beam_width", 4), ("length_penalty", 0.0), ("early_stopping", True)):
        with pytest.raises(ParameterError, match=f"^{field}: is only allowed with use_beam_search"):
            SamplingParams(**{field: value})
    for value in ("soon", 1, None):
        with pytest.raises(ParameterError, match=r"^early_stopping: takes true, false or"):
            SamplingParams(use_beam_search=True, early_stopping=value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 0.5), ("top_k", 5), ("top_p", 0.9), ("min_p", 0.1), ("repetition_penalty", 1.1),
     ("presence_penalty", 1), ("frequency_penalty", 1), ("logit_bias", {1: 1.0}), ("logprobs", 0), ("stop", "a")],
)  # fmt: skip
def test_what_does_not_go_with_a_search(field, value):
    with pytest.raises(ParameterError, match=f"^{field}: cannot be combined with use_beam_search"):
        SamplingParams(use_beam_search=True, **{field: value})
