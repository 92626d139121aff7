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
