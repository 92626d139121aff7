"""Log probabilities of prompts: each told once and in order, however a prompt is cut, cached or preempted."""

from typing import Any

import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Logprobs
from infergc.params import ParameterError, SamplingParams
from samples.engines import VOCAB, Results, make_engine, run, submit

PROMPT = [(7 * at + at * at) % VOCAB for at in range(90)]
ASKED: dict[str, Any] = {"max_tokens": 4, "ignore_eos": True, "prompt_logprobs": 3}


def told(engine: Engine, name: str = "a", **asked: Any) -> list[Logprobs]:
    results = run(engine, [submit(name, PROMPT, **{**ASKED, **asked})])
    assert not results.errors
    return results.prompts[name]


@pytest.fixture(scope="module")
def expected() -> list[Logprobs]:
    return told(make_engine(max_num_batched_tokens=256))


def test_every_token_but_the_first_is_told_of(expected: list[Logprobs]) -> None:
    assert len(expected) == len(PROMPT) - 1
    for token, report in zip(PROMPT[1:], expected, strict=True):
        assert len(report.top_ids) == 3
        assert list(report.top) == sorted(report.top, reverse=True)
        assert report.sampled == (
            report.top[report.rank - 1] if report.rank <= 3 else min(report.sampled, report.top[-1])
        )
        assert (token in report.top_ids) == (report.rank <= 3)


@pytest.mark.parametrize(
    "settings", [{"max_num_batched_tokens": 1}, {"max_num_batched_tokens": 7, "pipeline_depth": 2}]
)
def test_chunks_change_nothing(settings: dict[str, Any], expected: list[Logprobs]) -> None:
    assert told(make_engine(**settings)) == expected


def test_none_are_told_unless_asked_for_and_one_token_has_none() -> None:
    engine = make_engine()
    assert told(engine, prompt_logprobs=None) == []
    assert run(engine, [submit("b", [5], **ASKED)]).prompts["b"] == []


def test_a_cached_prompt_is_computed_all_the_same_and_cached_for_others(expected: list[Logprobs]) -> None:
    engine = make_engine()
    queries = engine.scheduler.counters
    assert told(engine) == expected
    assert (queries.prefix_queries, queries.prefix_hits) == (0, 0), "the cache was not asked"
    again = run(engine, [submit("again", PROMPT, **ASKED)])
    assert again.prompts["again"] == expected
    assert again.cached["again"] == 0
    plain = run(engine, [submit("plain", PROMPT, max_tokens=1)])
    assert plain.cached["plain"] == len(PROMPT) // 16 * 16
    assert engine.heap.counters.deduplicated == len(PROMPT) // 16, "equal pages are kept once"


def test_the_first_choice_tells_of_the_prompt(expected: list[Logprobs]) -> None:
    results = run(make_engine(), [submit("a", PROMPT, **ASKED, n=3)])
    assert [results.prompts[f"a#{index}"] for index in range(3)] == [expected, [], []]


@pytest.mark.parametrize("depth", [1, 2])
def test_what_was_told_is_neither_told_nor_computed_again(depth: int, expected: list[Logprobs]) -> None:
    """Admission lets hardly anybody give way amid a prompt: so it is forced here."""
    engine, results = make_engine(max_num_batched_tokens=6, pipeline_depth=depth), Results()
    results.take(engine.step([submit("a", PROMPT, **ASKED)]).news())
    while engine.has_work():
        results.take(engine.step().news())
        (request, *_) = *engine.scheduler.running, None
        if request is not None and request.tells_prompt and engine.counters.steps % 5 == 0:
            engine.scheduler._preempt(request)
    counters = engine.scheduler.counters
    assert counters.preemptions > 2
    assert counters.recomputed_tokens < 16 * counters.preemptions, "what was told and is cached is not computed again"
    assert results.prompts["a"] == expected


def test_an_abort_amid_the_prompt_leaves_nothing() -> None:
    engine, results = make_engine(max_num_batched_tokens=16, pipeline_depth=2), Results()
    results.take(engine.step([submit("a", PROMPT, **ASKED, n=2)]).news())
    for _ in range(3):
        results.take(engine.step().news())
    assert 0 < len(results.prompts["a#0"]) < len(PROMPT) - 1
    results.take_all(run(engine, [Abort("a")]))
    assert results.finish == {"a#0": "abort", "a#1": "abort"}


def test_beam_searches_have_none() -> None:
    with pytest.raises(ParameterError, match="prompt_logprobs: cannot be combined with use_beam_search"):
        SamplingParams(use_beam_search=True, n=2, prompt_logprobs=1)
