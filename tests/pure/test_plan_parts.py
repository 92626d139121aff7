"""The planner's parts: bisection, memory as flags, clients that wait for their answers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infergc.planner.advice import Findings, advise
from infergc.planner.cases import Case
from infergc.planner.load import Load, affordable, of_one_length
from infergc.planner.memory import rounded, written
from infergc.planner.probe import Outcome
from infergc.planner.search import highest_rate, largest
from infergc.sim.catalog import geometry_named
from infergc.sim.cost import FixedCost
from infergc.sim.requests import TraceRequest
from infergc.sim.simulate import Setup, simulate
from infergc.units import MIB, parse_bytes


@given(limit=st.integers(0, 5000), guess=st.integers(0, 9000), most=st.integers(1, 5000))
def test_the_largest_that_holds_is_found_within_its_precision(limit: int, guess: int, most: int) -> None:
    found = largest(lambda number: number if number <= limit else None, guess, most)
    limit = min(limit, most)
    if not limit:
        assert found is None
    else:
        assert found is not None
        assert found[0] == found[1] <= limit <= found[0] * 1.02 + 1


@given(limit=st.floats(0.02, 1.5), top=st.floats(0.1, 1000))
def test_the_highest_rate_is_found_within_its_precision(limit: float, top: float) -> None:
    found = highest_rate(lambda rate: rate if rate <= limit * top else None, top)
    assert found is not None
    assert found[0] == found[1] <= min(limit, 1.0) * top <= 1.031 * found[0]


def test_no_rate_is_low_enough() -> None:
    assert highest_rate(lambda _: None, 8.0) is None


@given(st.integers(1, 2**45))
def test_written_memory_reads_as_what_was_simulated(count: int) -> None:
    kept = rounded(count)
    assert parse_bytes(written(kept)) == kept
    assert 0 <= count - kept <= count / 1000


def test_loads_of_one_length_come_by_chance_at_the_rate_asked_for() -> None:
    load = of_one_length(10, 5, 2000)
    arrivals = [request.arrival for request in load.at_rate(1000, 4.0)]
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    assert arrivals[-1] == pytest.approx(250)
    assert 0.8 < sum(gap**2 for gap in gaps) / len(gaps) / (2 * 0.25**2) < 1.2  # exponential: E x² = 2 (E x)²


@pytest.mark.parametrize("clients", [1, 3, 40])
def test_clients_ask_again_when_they_have_their_answers(clients: int) -> None:
    requests = [TraceRequest(1000.0, 20, 5)] * 12
    setup = Setup(geometry_named("llama-3.2-1b"), FixedCost(0.5), 64 * MIB, clients=clients)
    run = simulate(setup, requests)
    assert all(fate.finished for fate in run.fates)
    comings = sorted(fate.request.arrival for fate in run.fates)
    ends = sorted(fate.last for fate in run.fates)
    assert comings[: min(clients, 12)] == [0.0] * min(clients, 12), "their times play no part"
    for come, end in zip(comings[clients:], ends, strict=False):
        assert come >= end, "one comes for each that is over"
    assert run.clock.most_running == min(clients, 12)
    assert run.figures["ttft"]["p50"] <= 2.0


def full_load(clients: int, rate: float, preempted: float = 0.0) -> Case:
    outcome = Outcome(
        requests=100, running=clients, most_running=clients, most_requests=clients, steady=True, preempted=preempted,
        recomputed=preempted, rate=rate, prompt_rate=rate, output_rate=rate, ttft=None,
        tpot=None, hits=0.0, evicted=0, refused=0,
    )  # fmt: skip
    return Case("", "", clients, outcome)


@pytest.mark.parametrize(
    ("rate", "preempted", "verdict", "flag"),
    [
        (0.9, 0.07, "on", "--max-num-seqs 12"),
        (0.995, 0.07, "little gain", ""),
        (1.2, 0.07, "little gain", ""),
        (0.9, 0.01, "does not apply", ""),
    ],
)
def test_a_cap_is_advised_where_letting_more_in_is_slower(
    rate: float, preempted: float, verdict: str, flag: str
) -> None:
    cases = {"crowd": full_load(48, rate, preempted)}
    load = of_one_length(100, 10, 4)
    found = Findings(
        geometry_named("llama-3.2-1b"), load, full_load(24, 1.0), cases, certain=24, places=12, kv=64 * MIB
    )
    restore = next(one for one in advise(found) if one.when == "work is preempted")
    assert (restore.verdict, restore.flag, restore.offered) == (verdict, flag, True)


def test_the_largest_is_sought_above_what_is_known() -> None:
    tried: list[int] = []

    def run(number: int) -> int | None:
        tried.append(number)
        return number if number <= 40 else None

    assert largest(run, 26, 4096, known=25) == (40, 40)
    assert min(tried) > 25
    assert largest(run, 26, 4096, known=5000) is None


def turns(count: int, sessions: int) -> list[TraceRequest]:
    """Of conversations that each begin alike, in turn; every prompt holds the last one's."""
    each = ((f"s{at % sessions}", 1 + at // sessions) for at in range(count))
    return [TraceRequest(0.0, 32 * of, 4, tuple(range(of)), 32, session=name, salt=name) for name, of in each]


def test_turns_of_a_conversation_keep_their_order_whatever_clients_there_are() -> None:
    """They once all began together, so that none found the last one's prompt, and sharing looked worthless."""
    setup = Setup(geometry_named("llama-3.2-1b"), FixedCost(0.5), 64 * MIB, clients=12)
    run = simulate(setup, turns(12, 3))
    for later, fate in enumerate(run.fates[3:]):
        assert fate.request.arrival >= run.fates[later].last, "the last turn was answered"
    assert run.clock.most_requests == 3
    assert run.figures["token_hit_rate"] == pytest.approx((1 + 2 + 3) / (1 + 2 + 3 + 4))


@pytest.mark.parametrize("beam", [False, True])
def test_a_request_of_several_texts_is_one_request(beam: bool) -> None:
    """Its sequences were once taken for as many clients, so that twice as many seemed to run as did."""
    requests = [TraceRequest(0.0, 40, 20, choices=4, beam=beam)] * 6
    setup = Setup(geometry_named("llama-3.2-1b"), FixedCost(0.5), 8 * MIB, settings={"max_num_seqs": 24}, clients=6)
    run = simulate(setup, requests)
    assert run.clock.most_running > run.clock.most_requests > 0
    assert run.clock.most_requests < 6


def test_no_run_takes_more_requests_than_can_be_simulated_in_seconds() -> None:
    """Forty beam searches once took a plan minutes, and the thousandth request of a trace was cut off in silence."""
    few = Load([TraceRequest(0.0, 10, 10)] * 500, "500 requests")
    assert affordable(few) is few
    long = affordable(Load([TraceRequest(float(at), 10, 1000) for at in range(5000)], "5,000 requests of it", 1.0))
    assert 200 < len(long.requests) < 1000
    assert long.cut
    assert long.words == f"the first {len(long.requests)} of 5,000 requests of it"
    assert long.own_rate == 1.0
    beams = affordable(Load([TraceRequest(0.0, 10, 1000, choices=4, beam=True)] * 500, "500 requests"))
    assert len(beams.requests) < len(long.requests) / 8


def test_of_each_conversation_one_request_is_under_way() -> None:
    load = Load(turns(12, 3), "")
    assert [load.at_once(count) for count in (1, 3, 12)] == [1, 3, 3]
    assert [load.enough_for(clients) for clients in (1, 3, 4)] == [1, 3, 12]
