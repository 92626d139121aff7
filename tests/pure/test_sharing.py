"""Long prompts beside short ones: neither waits for the other."""

from typing import Any

import numpy as np
import pytest

from infergc.sched.plan import StepPlan
from infergc.sched.rows import Rows
from infergc.sched.sharing import Sharing
from infergc.sched.step_times import StepTimes
from infergc.sim.catalog import geometry_named
from infergc.sim.cost import CostModel, FixedCost, Roofline
from infergc.sim.devices import device_named
from infergc.sim.requests import TraceRequest
from infergc.sim.simulate import Setup, simulate

MODEL = geometry_named("llama-3.1-8b")
LONG, BEGIN = 32_000, 20.0


class Shallow(FixedCost):
    """A small model on a slow device: 16 tokens at the end of a long prompt take as long as a short prompt."""

    def seconds(self, plan: StepPlan) -> float:
        """See ``CostModel``."""
        pairs = int((plan.counts * (plan.starts + plan.counts / 2)).sum())
        return self.each + 2e-5 * int(plan.counts.sum()) + 2e-8 * pairs


def first_tokens(
    requests: list[TraceRequest], pool_tokens: int = 200_000, cost: CostModel | None = None, **settings: Any
) -> dict[int, list[float]]:
    """Seconds to the first token, by length of the prompt, of those that come from ``BEGIN`` on."""
    setup = Setup(
        MODEL,
        cost or Roofline(MODEL, device_named("a100-80g")),
        pool_tokens * MODEL.kv_bytes_per_token,
        "lru",
        settings={"max_num_batched_tokens": 2048, **settings},
    )
    found: dict[int, list[float]] = {}
    for fate in simulate(setup, requests).fates:
        assert fate.finished
        assert fate.first is not None
        if fate.request.arrival >= BEGIN:
            found.setdefault(fate.request.input_len, []).append(fate.first - fate.request.arrival)
    return found


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("tokens", "rate"), [(128, None), (512, None), (128, 2.0), (512, 4.0)])
def test_short_prompts_hardly_wait_for_a_long_one(tokens: int, rate: float | None, depth: int) -> None:
    warm = [TraceRequest(0.3 * at, tokens, 32) for at in range(20)]
    shorts = [TraceRequest(BEGIN + (at / rate if rate else 0.0), tokens, 64) for at in range(50)]
    long = [TraceRequest(BEGIN, LONG, 16)]
    without = first_tokens(warm + shorts, pipeline_depth=depth)[tokens]
    both = first_tokens(warm + long + shorts, pipeline_depth=depth)
    alone = first_tokens(warm + long, pipeline_depth=depth)[LONG][0]
    assert np.percentile(both[tokens], 99) <= 1.5 * np.percentile(without, 99)
    assert both[LONG][0] < 12 * alone, "its share of every step bounds its wait"


@pytest.mark.parametrize("rate", [None, 4.0, 8.0])
def test_short_prompts_hardly_wait_where_a_few_tokens_of_a_long_one_take_long(rate: float | None) -> None:
    warm = [TraceRequest(0.3 * at, 512, 16) for at in range(20)]
    shorts = [TraceRequest(BEGIN + (at / rate if rate else 0.0), 512, 16) for at in range(50)]
    settings: dict[str, Any] = {"cost": Shallow(1e-3), "max_num_batched_tokens": 512}
    without = first_tokens(warm + shorts, **settings)[512]
    both = first_tokens([*warm, TraceRequest(BEGIN, LONG, 16), *shorts], **settings)
    alone = first_tokens([*warm, TraceRequest(BEGIN, LONG, 16)], **settings)[LONG][0]
    assert np.percentile(both[512], 99) <= 1.5 * np.percentile(without, 99)
    assert both[LONG][0] < 12 * alone


@pytest.mark.parametrize(("cost", "budget"), [(None, 2048), (Shallow(1e-3), 512)])
def test_nor_do_they_where_the_engine_has_hardly_run_before(cost: CostModel | None, budget: int) -> None:
    """What a prompt takes is not known when the first one comes, and is told in seconds when it is."""
    shorts = [TraceRequest(BEGIN + 0.25 * at, 512, 16) for at in range(50)]
    first = TraceRequest(BEGIN - 1, 512, 16)
    settings: dict[str, Any] = {"cost": cost, "max_num_batched_tokens": budget}
    without = first_tokens([first, *shorts], **settings)[512]
    both = first_tokens([first, TraceRequest(BEGIN, LONG, 16), *shorts], **settings)[512]
    assert np.percentile(both, 99) <= 1.6 * np.percentile(without, 99)


@pytest.mark.parametrize(("tokens", "outputs", "rate"), [(16, 4, 2.0), (32, 8, 2.0), (128, 4, 5.0)])
def test_a_long_prompt_gets_on_beside_tiny_ones_without_end(tokens: int, outputs: int, rate: float) -> None:
    shorts = [TraceRequest(BEGIN + at / rate, tokens, outputs) for at in range(int(60 * rate))]
    alone = first_tokens([TraceRequest(BEGIN, LONG, 4)])[LONG][0]
    assert first_tokens([TraceRequest(BEGIN, LONG, 4), *shorts])[LONG][0] < 12 * alone


@pytest.mark.parametrize("tokens", [16, 512])
def test_a_long_prompt_on_an_engine_that_was_idle_waits_for_nobody(tokens: int) -> None:
    warm = [TraceRequest(0.3 * at, tokens, 32) for at in range(20)]
    fresh = first_tokens([TraceRequest(BEGIN, LONG, 4)])[LONG][0]
    assert first_tokens([*warm, TraceRequest(BEGIN, LONG, 4)])[LONG][0] < 1.1 * fresh


COSTS = (1e-3, 2e-5, 2e-8, 0.0)  # of ``Shallow``, as they are learnt


def given(budget: int, long: list[int], steps: int) -> list[int]:
    """Tokens that long prompts at these positions get in so many steps beside a decode."""
    rows, times = Rows(8, 200_000), StepTimes()
    times.coefficients, times.most = COSTS, budget
    sharing = Sharing(rows, times, budget)
    slots = np.arange(len(long) + 1)
    rows.known[:], rows.limit[:] = 100_000, 200_000
    rows.scheduled[slots] = [*long, 99_999]
    for _ in range(steps):
        counts = sharing.spread(slots, 0)
        assert counts[-1] == 1
        rows.scheduled[slots] += counts
        rows.known[slots[-1]] += 1
    return (rows.scheduled[slots[:-1]] - long).tolist()


@pytest.mark.parametrize(
    ("budget", "start"), [(8, 64), (15, 64), (64, 4000), (128, 12_000), (256, 20_000), (512, 45_000)]
)
def test_a_chunk_that_takes_longer_than_a_whole_step_is_saved_for(budget: int, start: int) -> None:
    (tokens,) = given(budget, [start], steps=2000)
    seconds = 2e-5 * tokens + 2e-8 * tokens * (start + tokens / 2)
    rest = 2000 * (1e-3 + 2e-5)
    assert seconds > 0.9 * rest / 11


def test_what_the_first_long_prompt_saves_is_not_the_second_ones() -> None:
    alone = given(512, [24_000], steps=400)
    assert given(512, [24_000, 16], steps=400) == [*alone, 0]


def test_a_long_prompt_alone_is_served_in_whole_steps() -> None:
    whole = first_tokens([TraceRequest(BEGIN, LONG, 4)], max_num_batched_tokens=2048)[LONG][0]
    at_once = first_tokens([TraceRequest(BEGIN, LONG, 4)], max_num_batched_tokens=32_768)[LONG][0]
    assert whole < 1.2 * at_once


def test_two_long_prompts_are_served_one_after_the_other() -> None:
    alone = first_tokens([TraceRequest(BEGIN, LONG, 4)])[LONG][0]
    first, second = sorted(first_tokens([TraceRequest(BEGIN, LONG, 4)] * 2)[LONG])
    assert first < 1.2 * alone
    assert second < 2.3 * alone  # for a second after the first one's end it has short steps


@pytest.mark.parametrize(("pool_tokens", "slots"), [(33_000, 64), (200_000, 1)])
def test_a_long_prompt_is_not_slowed_for_who_waits_for_its_memory_or_slot(pool_tokens: int, slots: int) -> None:
    warm = [TraceRequest(0.3 * at, 512, 32) for at in range(20)]
    long, short = TraceRequest(BEGIN, LONG, 16), TraceRequest(BEGIN + 0.1, 2000, 16)
    alone = first_tokens([*warm, long], pool_tokens, max_num_seqs=slots)[LONG][0]
    both = first_tokens([*warm, long, short], pool_tokens, max_num_seqs=slots)
    assert both[LONG][0] < 1.5 * alone
    assert both[2000][0] < 2 * alone
