"""The collector at work in the engine: what it finds is told and mended while requests run."""

import pytest

from infergc.engine.messages import Ask
from infergc.heap.provenance import Place, taken_by
from samples.engines import Results, make_engine, run, submit


def test_a_leak_is_told_and_reclaimed_while_requests_run(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine(gc_major_pages=1, max_num_seqs=2)
    engine.step([submit("leaky", list(range(40)), max_tokens=30)])
    (sequence,) = engine.heap.sequences.values()
    page = engine.heap.tables[0].last_page(sequence.slot)
    engine.heap.groups[0].retain([(page, 1)], taken_by(sequence.id, Place.FORK))
    run(engine, [], check=False)
    run(engine, [submit(f"r{at}", list(range(at, at + 40)), max_tokens=30) for at in range(3)], check=False)
    assert f"the heap was mended: group full: page {page} leaked; last taken by leaky in fork" in caplog.text
    assert engine.pacer.collector.counters.leaks == 1
    engine.heap.check()
    while engine.idle():
        pass
    stats = engine.heap.stats()[0]
    assert stats.free + stats.cached == stats.capacity


def test_an_idle_engine_collects_until_nothing_is_left() -> None:
    engine = make_engine(gc_idle_us=1)
    run(engine, [submit("a", list(range(40)), max_tokens=30)])
    pauses = 0
    while engine.idle():
        pauses += 1
        assert pauses < 10_000
    assert engine.pacer.collector.counters.major == 1
    assert engine.pacer.pauses.seconds > 0
    assert sum(engine.pacer.pauses.counts) >= pauses > 0


def test_what_the_engine_does_not_know_is_refused() -> None:
    (answer,) = make_engine().step([Ask(5, "nonsense")]).answers
    assert (answer.number, answer.value) == (5, None)
    assert answer.error.startswith('"nonsense" is none of verify, ')
    (answer,) = make_engine().step([Ask(6, "close_session", {"salt": ""})]).answers
    assert answer.error.startswith("close_session: ")


def test_the_collector_changes_no_token() -> None:
    texts = []
    for gc in ("on", "off"):
        engine = make_engine(gc=gc, gc_minor_pages=1, gc_major_pages=1, pages=24)
        results = Results()
        for at in range(4):
            results.take_all(run(engine, [submit(f"{at}{x}", list(range(x, x + 40)), max_tokens=20) for x in range(3)]))
        texts.append(results.tokens)
    assert texts[0] == texts[1]


def test_with_the_collector_off_nobody_waits_for_it() -> None:
    """Nodes of the prefix tree are queued to be looked at, and nobody looks."""
    engine = make_engine(gc="off", pages=24)
    for number in range(60):
        run(engine, [submit(f"r{number}", [number % 50] * 40, max_tokens=8, ignore_eos=True)], check=False)
    tree = engine.heap.tree
    assert engine.heap.counters.evicted > 50
    assert sum(map(len, tree.generations._waiting)) <= len(tree.nodes()) <= 24


def test_lower_ages_take_effect_while_nothing_runs() -> None:
    """Nothing is born any more, and what waits was born under the higher age."""
    engine = make_engine(gc_young_steps=100_000)
    for name in "ab":
        run(engine, [submit(name, [3] * 40, max_tokens=8)])
    while engine.idle():
        pass
    generations = engine.heap.tree.generations
    assert sum(generations.promoted) == 0
    engine.step([Ask(1, "settings", {"gc_young_steps": 1})])
    while engine.idle():
        pass
    assert sum(generations.promoted) > 0


def test_what_verify_found_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine(gc="off")
    engine.heap.groups[0].retain([(3, 1)], taken_by(0, Place.FORK))
    engine.heap.groups[0].space.take_run(3, 1)
    (answer,) = engine.step([Ask(1, "verify")]).answers
    assert "page 3 leaked" in answer.value
    assert "the heap was mended: group full: page 3 leaked" in caplog.text
    assert not engine.pacer.collector.found


def test_figures_are_those_of_the_safepoint_they_were_asked_at() -> None:
    """They are sent with the step's outputs: what that step reclaims is not among them."""
    engine = make_engine(pages=12)
    run(engine, [submit("old", [7] * 160, max_tokens=4)], check=False)
    outputs = engine.step([Ask(1, "figures"), submit("new", [9] * 160, max_tokens=4)])
    (answer,) = outputs.answers
    assert engine.heap.counters.evicted > 0
    assert sum(answer.value["evicted"].values()) == 0
    assert sum(sum(stays["counts"]) for stays in answer.value["residency"].values()) == 0
    assert answer.value["collector"]["units"] is not engine.pacer.collector.counters.units
