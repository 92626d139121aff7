"""Workloads under the engine in simulated time, and prompts replayed for the cache alone."""

from collections import OrderedDict
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from infergc.config import ConfigError, EngineConfig
from infergc.engine.assembly import assemble
from infergc.engine.loop import Engine
from infergc.engine.ports import Executor, Sink
from infergc.heap.retention import Retention
from infergc.sched.plan import StepPlan
from infergc.sim.clock import held_bytes
from infergc.sim.cost import FixedCost
from infergc.sim.geometry import Geometry
from infergc.sim.requests import TraceRequest
from infergc.sim.simulate import Run, Setup, simulate
from infergc.sim.workloads import workload

MODEL = Geometry("tiny", 2, 64, 4, 2, 16, 96, 100, 512)
PAGE = 16 * MODEL.kv_bytes_per_token
STEP = 0.25


def run(requests: list[TraceRequest], pages: int = 64, *, sampled: bool = False, **changed: Any) -> Run:
    settings = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "pipeline_depth": 1, **changed.pop("settings", {})}
    return simulate(
        Setup(MODEL, FixedCost(STEP), pages * PAGE, settings=settings, **changed), requests, sampled=sampled
    )


@pytest.mark.parametrize("depth", [1, 2])
def test_a_request_alone_takes_its_steps(depth: int) -> None:
    result = run([TraceRequest(2.0, 100, 9)], settings={"pipeline_depth": depth})
    (fate,) = result.fates
    assert fate.finished
    assert fate.first == 2.0 + 2 * STEP, "two chunks of at most 64 tokens"
    assert fate.last == fate.first + 8 * STEP
    figures = result.figures
    assert figures["ttft"]["p50"] == 2 * STEP
    assert figures["tpot"]["p99"] == STEP
    assert figures["e2e"]["mean"] == 10 * STEP
    assert figures["throughput"]["output_tokens"] == pytest.approx(9 / fate.last)
    assert figures["peak_live_bytes"] == 7 * PAGE  # 108 tokens are written; the ninth of the output never is
    assert result.clock.busy == pytest.approx(10 * STEP)


def test_requests_come_at_their_times_and_wait_for_the_step_under_way() -> None:
    first, second = run([TraceRequest(0.0, 10, 20), TraceRequest(0.1, 10, 1)]).fates
    assert first.first == STEP
    assert second.first == 2 * STEP
    assert first.last == 20 * STEP


def test_nothing_passes_unseen_between_two_bursts() -> None:
    early, late = run([TraceRequest(0.0, 10, 2), TraceRequest(1000.0, 10, 2)]).fates
    assert early.last == 2 * STEP
    assert late.first == 1000.0 + STEP


def test_a_shared_prefix_is_computed_once_and_held_once() -> None:
    turns = [TraceRequest(float(at), 64, 4, blocks=(1, 2, 3 + at), block_tokens=24) for at in range(3)]
    result = run(turns)
    assert [fate.cached for fate in result.fates] == [0, 48, 48]
    assert result.figures["prefix_hit_rate"] == 6 / 12
    assert result.figures["token_hit_rate"] == 96 / 192
    alone = run([replace(turn, blocks=()) for turn in turns])
    assert alone.figures["prefix_hit_rate"] == 0


def test_an_output_that_the_pool_cuts_is_not_finished_and_counts_what_was_given() -> None:
    result = run([TraceRequest(0.0, 200, 200), TraceRequest(0.0, 20, 10)], pages=20)
    cut, whole = result.fates
    assert (cut.finished, cut.cut, cut.tokens) == (False, True, 120)
    assert (whole.finished, whole.cut, whole.tokens) == (True, False, 10)
    figures = result.figures
    assert (figures["finished"], figures["cut"], figures["refused"]) == (1, 1, 0)


@pytest.mark.parametrize("beam", [False, True])
def test_choices_are_counted_together(beam: bool) -> None:
    (fate,) = run([TraceRequest(0.0, 20, 10, choices=3, beam=beam)]).fates
    assert (fate.finished, fate.tokens) == (True, 30)


def test_a_beam_search_has_no_time_for_each_token() -> None:
    assert run([TraceRequest(0.0, 20, 10, choices=3, beam=True)]).figures["tpot"] is None


def test_refusals_are_counted_by_reason() -> None:
    figures = run([TraceRequest(0.0, length, 5) for length in (400, 10, 400)], pages=20).figures
    assert (figures["finished"], figures["cut"], figures["refused"]) == (1, 0, 2)
    assert figures["refusals"] == {"prompt: N tokens; 1 to 319 are allowed": 2}


class _Held(Sink):
    """Most bytes live alone, and live or in transit."""

    live = held = 0
    engine: Engine

    def planned(self, plan: StepPlan) -> None:
        now = held_bytes(self.engine)
        self.live, self.held = max(self.live, now.live), max(self.held, now.live + now.in_transit)


def test_what_a_step_in_flight_still_reads_is_held_for_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _Held()

    def watched(config: EngineConfig, executor: Executor, sinks: list[Sink], retention: Retention | None) -> Engine:
        seen.engine = assemble(config, executor, [*sinks, seen], retention)
        return seen.engine

    monkeypatch.setattr("infergc.sim.simulate.assemble", watched)
    requests = [TraceRequest(0.0, 30 + 16 * (at % 5), 20 + at % 7) for at in range(60)]
    figures = run(requests, 200, settings={"pipeline_depth": 2, "enable_prefix_caching": False}).figures
    assert figures["peak_live_bytes"] == seen.held > seen.live


def test_tenants_do_not_share() -> None:
    turns = [TraceRequest(float(at), 64, 4, (1, 2), 32, salt=f"tenant {at}") for at in range(2)]
    assert run(turns).figures["prefix_hit_rate"] == 0


def test_a_pool_too_small_preempts_and_recomputes_and_all_finish() -> None:
    figures = run([TraceRequest(0.0, 30, 90) for _ in range(6)], pages=20).figures
    assert figures["finished"] == 6
    assert figures["preemptions"] > 0
    assert figures["recomputed_tokens"] > 0
    assert 15 * PAGE < figures["peak_live_bytes"] <= 20 * PAGE


def test_a_request_that_no_pool_holds_is_refused_and_said() -> None:
    whole, refused = run([TraceRequest(0.0, 30, 10), TraceRequest(0.0, 2000, 10)], pages=20).fates
    assert whole.finished
    assert "2000 tokens" in refused.error
    assert refused.first is refused.last is None


def test_choices_and_beams_are_counted_in_full() -> None:
    requests = [TraceRequest(0.0, 40, 6, choices=3), TraceRequest(0.0, 40, 6, choices=3, beam=True)]
    result = run(requests)
    assert [fate.tokens for fate in result.fates] == [18, 18]
    assert result.figures["finished"] == 2


def test_the_same_run_gives_the_same_figures() -> None:
    requests = workload("chat:requests=60,rate=3,seed=4")
    one, other = (run(requests, 700, sampled=True, settings={"max_num_batched_tokens": 512}) for _ in range(2))
    assert one.figures == other.figures
    assert one.clock.samples == other.clock.samples
    assert one.figures["collector"]["minor"] > 0
    assert one.figures["collector"]["evicted"] > 0


def test_samples_tell_of_all_memory_and_stay_few() -> None:
    requests = workload("chat:requests=40,rate=3,seed=4")
    result = run(requests, 700, sampled=True, settings={"max_num_batched_tokens": 512})
    assert result.clock.steps > 1024
    assert 256 <= len(result.clock.samples) <= 512
    for sample in result.clock.samples:
        assert sum(sum(ages.values()) for ages in sample.held.values()) == 700 * PAGE
    assert (
        max(sum(sample.held["live"].values()) for sample in result.clock.samples) <= result.figures["peak_live_bytes"]
    )


def lru_hits(requests: list[TraceRequest], pages: int) -> int:
    """Pages found by a plain LRU list of pages, tails given up first."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for request in requests:
        leading = next((at for at, block in enumerate(request.blocks) if block not in cache), len(request.blocks))
        hits += leading
        for block in reversed(request.blocks):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > pages:
            cache.popitem(last=False)
    return hits


@pytest.mark.parametrize("pages", [30, 60, 120, 100_000])
def test_replayed_for_the_cache_alone_lru_is_lru(pages: int) -> None:
    turns = workload("chat:requests=300,rate=2,seed=3,system=48,question=40,answer=24")
    blocks = [
        replace(turn, input_len=16 * len(whole), blocks=whole)
        for turn in turns
        if len(whole := turn.blocks[: min(len(turn.blocks) - 1, 20)]) > 0
    ]
    # One token more than the blocks: the last token of a prompt is always computed, and none of them is.
    asked = [
        replace(turn, input_len=turn.input_len + 1, blocks=(*turn.blocks, 2**29 + at)) for at, turn in enumerate(blocks)
    ]
    result = run(asked, pages=pages, replay="cache", policy="lru")
    found = sum(fate.cached // 16 for fate in result.fates)
    expected = lru_hits(blocks, pages)
    assert expected > 0
    assert found == pytest.approx(expected, rel=0.05), "the prompt that runs takes room too"
    if pages == 100_000:
        assert found == expected
    assert result.clock.steps == len(asked)


def test_sessions_keep_nothing_where_retention_alone_is_compared() -> None:
    turns = workload("agents:requests=60,rate=3,seed=2")
    assert any(turn.session for turn in turns)
    pages = max(turn.input_len for turn in turns) // 16 * 2
    kept, alone = (run(each, pages, replay="cache") for each in (turns, [replace(turn, session="") for turn in turns]))
    assert kept.figures == alone.figures


def flooded(seed: int, count: int = 600) -> list[TraceRequest]:
    """Twelve documents that are asked about again and again, in a flood of prompts that come once."""
    draw, fresh, requests = Random(seed), 10_000, []  # noqa: S311 - no secret
    for at in range(count):
        if draw.random() < 0.35:
            document = 100 * draw.randrange(12)
            blocks, fresh = (*range(document, document + 20), fresh), fresh + 1
        else:
            blocks, fresh = tuple(range(fresh, fresh + 24)), fresh + 24
        requests.append(TraceRequest(float(at), 16 * len(blocks), 1, blocks, 16))
    return requests


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("pages", [200, 300, 600])
def test_without_generations_a_flood_takes_what_has_proved_itself(pages: int, seed: int) -> None:
    """The ablation: the same requests and pool, with what goes first chosen by age alone."""
    runs = [run(flooded(seed), pages, replay="cache", policy=policy) for policy in ("generational", "lru")]
    with_them, without = (each.figures["prefix_hit_rate"] for each in runs)
    assert with_them > 1.3 * without > 0


def test_settings_that_make_no_engine_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="--max-num-seqs"):
        run([TraceRequest(0.0, 4, 4)], settings={"max_num_seqs": 0})
