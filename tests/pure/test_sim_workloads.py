"""Workloads from a seed: the same everywhere, shaped as their knobs say; and what is done to workloads."""

import hashlib
import itertools
import math
import re
from collections import Counter, defaultdict
from dataclasses import fields
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infergc.sim.draws import Draws, Popularity
from infergc.sim.requests import TraceRequest
from infergc.sim.transform import between, first, scale_arrivals
from infergc.sim.workloads import KINDS, Agents, Chat, Rag, SystemPrompts, WorkloadError, workload
from infergc.sim.workloads.spec import parse_workload
from infergc.sim.workloads.texts import BLOCK
from infergc.units import ceil_div

PAGE = Path(__file__).parents[2] / "docs" / "traces.md"
LINE = re.compile(r"^\| `(\w+)` \| (\S+) \| (\S+) to (\S+) \| (.*) \|$", re.MULTILINE)
DIGESTS = {
    "agents": "efab8fe31cec",
    "beams": "671a0de45029",
    "chat": "1ba35a9787a0",
    "rag": "a0c5e36909f0",
    "system-prompts": "d278392c8555",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_requests_everywhere(kind: str) -> None:
    made = workload(f"{kind}:requests=200,seed=7")
    assert hashlib.sha256(repr(made).encode()).hexdigest()[:12] == DIGESTS[kind]
    assert made == workload(f"{kind}:seed=7,requests=200") != workload(f"{kind}:requests=200,seed=8")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_requests_are_well_formed_whatever_the_knobs(kind: str, data: st.DataObject) -> None:
    """They come in order, fit the context, and have blocks for their prompts: equal ids after equal beginnings."""
    context = data.draw(st.sampled_from([512, 1000, 4096]))
    knobs = {"requests": data.draw(st.integers(1, 60)), "seed": data.draw(st.integers(0, 99)), "context": context}
    knobs["spread"] = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    small = data.draw(st.integers(1, 300))
    knobs |= {one.name: min(small, context // 2) for one in fields(KINDS[kind]) if one.name in {"system", "question"}}
    requests = KINDS[kind](**{**knobs, "rate": data.draw(st.sampled_from([0.5, 100.0]))}).generate()
    assert len(requests) == knobs["requests"]
    assert [one.arrival for one in requests] == sorted(one.arrival for one in requests)
    before: dict[int, tuple[int, ...]] = {}
    for one in requests:
        assert one.input_len >= 1
        assert one.output_len >= 1
        assert one.input_len + one.output_len <= context
        assert (one.block_tokens, len(one.blocks)) == (BLOCK, ceil_div(one.input_len, BLOCK))
        for place, block in enumerate(one.blocks):
            assert before.setdefault(block, one.blocks[:place]) == one.blocks[:place]


def test_fewer_requests_are_the_first_of_more() -> None:
    for kind in KINDS:
        assert workload(f"{kind}:requests=40") == workload(f"{kind}:requests=90")[:40]


def test_requests_come_by_a_poisson_process_of_the_rate() -> None:
    arrivals = [one.arrival for one in workload("beams:requests=4000,rate=5")]
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    assert arrivals[0] == 0
    assert mean(gaps) == pytest.approx(1 / 5, rel=0.05)
    assert sum(gap > 1 / 5 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), rel=0.1)


def test_lengths_have_their_mean_and_spread() -> None:
    loose = [one.input_len for one in workload("beams:requests=4000,prompt=300")]
    assert mean(loose) == pytest.approx(300, rel=0.05)
    assert max(loose) <= 2400
    assert {one.input_len for one in workload("beams:prompt=300,spread=0")} == {300}
    half = [one.input_len for one in workload("beams:requests=4000,prompt=300,spread=0.5")]
    assert min(half) >= 150
    assert mean(half) == pytest.approx(300, rel=0.05)


def turns(requests: list[TraceRequest]) -> dict[str, list[TraceRequest]]:
    found = defaultdict(list)
    for one in requests:
        found[one.session].append(one)
    return found


@pytest.mark.parametrize("kind", ["chat:requests=2000,spread=0.5", "agents:requests=1000"])
def test_a_turn_begins_with_all_turns_before_it_and_their_outputs(kind: str) -> None:
    grown = 0
    for session in turns(workload(kind)).values():
        for last, now in itertools.pairwise(session):
            assert now.input_len > last.input_len + last.output_len
            shared = ceil_div(last.input_len, BLOCK)
            assert now.blocks[:shared] == last.blocks
            assert now.arrival > last.arrival + last.output_len / 30 - 1e-5
            grown += 1
    assert grown > 500


def test_chats_share_the_system_prompt_and_nothing_else() -> None:
    sessions = turns(Chat(requests=300, system=100).generate())
    beginnings = [session[0].blocks for session in sessions.values()]
    assert {blocks[:7] for blocks in beginnings} == {tuple(range(7))}  # 100 tokens, in whole blocks
    private = Counter(block for session in sessions.values() for block in set(session[-1].blocks[7:]))
    assert set(private.values()) == {1}


def test_chats_go_on_with_the_probability_that_was_given() -> None:
    requests = Chat(requests=5000, rate=50.0, again=0.75, think=0.0, speed=1e6, context=2**20).generate()
    assert len(requests) / len(turns(requests)) == pytest.approx(4, rel=0.1)
    assert 5000 / requests[-1].arrival == pytest.approx(50, rel=0.1)
    assert set(map(len, turns(Chat(requests=100, again=0.0).generate()).values())) == {1}


def test_agents_take_many_short_turns_and_share_by_kind() -> None:
    requests = Agents(requests=2000, kinds=3, system=160).generate()
    sessions = turns(requests)
    kinds = Counter(session[0].blocks[:10] for session in sessions.values())
    assert len(kinds) == 3
    assert 10 < len(requests) / len(sessions) <= 17
    assert mean(one.output_len for one in requests) == pytest.approx(60, rel=0.1)
    assert mean(one.input_len for one in requests) > 3000


def test_system_prompts_are_as_popular_as_zipf_says() -> None:
    made = SystemPrompts(requests=5000, prompts=4, zipf=1.0, system=64).generate()
    counts = [count for _, count in Counter(one.blocks[:4] for one in made).most_common()]
    assert len(counts) == 4
    for rank, count in enumerate(counts, 1):
        assert count / 5000 == pytest.approx(1 / rank / (1 + 1 / 2 + 1 / 3 + 1 / 4), rel=0.1)


def test_the_share_that_has_a_system_prompt_is_as_given_and_lengths_stay() -> None:
    made = SystemPrompts(requests=4000, prompts=1, share=0.25, spread=0.0, system=64, tail=10).generate()
    popular = Counter(block for one in made for block in one.blocks)
    assert sum(popular[one.blocks[0]] > 1 for one in made) / 4000 == pytest.approx(0.25, abs=0.03)
    assert {one.input_len for one in made} == {74}


def test_documents_come_before_questions_the_popular_ones_often() -> None:
    rag = Rag(requests=2000, documents=5, each=2, document=32, question=8, spread=0.0, zipf=1.0)
    made = rag.generate()
    assert {one.input_len for one in made} == {2 * 32 + 8}
    pairs = Counter(one.blocks[:4] for one in made)
    assert len(pairs) == 20  # in their order: five documents, no pair of the same
    assert len({blocks[:2] for blocks in pairs}) == 5
    alone = Counter(one.blocks[:2] for one in made).most_common(1)[0][1]
    assert alone / 2000 == pytest.approx(1 / sum(1 / rank for rank in range(1, 6)), rel=0.1)
    assert len({one.blocks[4] for one in made}) == 2000


def test_all_documents_of_a_prompt_are_different_however_popular_one_is() -> None:
    popularity, draws = Popularity(32, 4.0), Draws("test")
    for _ in range(20):
        found: list[int] = []
        while len(found) < 32:
            found.append(popularity.draw(draws, found))
        assert sorted(found) == list(range(32))
    # Without the first, the second is as likely as its share of the others' weights.
    weights = [float(rank) ** -1 for rank in range(2, 5)]
    drawn = Counter(Popularity(4, 1.0).draw(draws, [0]) for _ in range(5000))
    assert drawn[1] / 5000 == pytest.approx(weights[0] / sum(weights), rel=0.1)
    assert drawn[0] == 0


def test_beams_ask_for_a_search() -> None:
    assert {(one.choices, one.beam, one.session) for one in workload("beams:width=6")} == {(6, True, "")}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("", '"" is no workload; there are agents, beams, chat, rag, system-prompts'),
        ("chats", '"chats" is no workload; there are agents'),
        ("chat:turns=3", '"turns" is no knob of chat; there are requests, rate, seed, context, spread, system, again'),
        ("chat:requests", r'requests: "" is not allowed; write a number, such as requests=1'),
        ("chat:requests=many", 'requests: "many" is not allowed; write a number'),
        ("chat:requests=1.5", "requests: 1.5 is not allowed; it must be a whole number from 1 to 100000"),
        ("chat:requests=0", "requests: 0 is not allowed"),
        ("chat:rate=0", r"rate: 0 is not allowed; it must be a number from 1e-06 to 1000000.0"),
        ("chat:rate=nan", "rate: NaN is not allowed"),
        ("chat:rate=1,rate=1", "rate: it is given twice"),
        ("chat:again=1", "again: 1 is not allowed; it must be a number from 0.0 to 0.99"),
        ("chat:system=5000", "system: 5000 is not allowed; it must be at most 4096, in half the context"),
        ("system-prompts:system=4097", "system: 4097 is not allowed; it must be at most 4096"),
        ("rag:each=3,documents=2", "each: 3 is not allowed; there are 2 documents"),
        ("rag:each=32,context=512", "each: 32 is not allowed; half the context has room for 16 documents"),
        ("beams:width=129", "width: 129 is not allowed; it must be a whole number from 1 to 128"),
    ],
)
def test_a_spec_that_is_wrong_is_refused_by_knob(spec: str, why: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{why}"):
        workload(spec)


def test_a_spec_says_what_a_dataclass_says() -> None:
    assert parse_workload("chat") == parse_workload("chat:") == Chat()
    assert parse_workload("rag:documents=50,zipf=0.5,rate=2") == Rag(documents=50, zipf=0.5, rate=2)


def test_knobs_take_numbers_only() -> None:
    for wrong in (True, "5", None):
        with pytest.raises(WorkloadError, match=r"requests: .* is not allowed; it must be a whole number"):
            Chat(requests=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_tells_every_knob_with_its_default_and_bounds(kind: str) -> None:
    section = PAGE.read_text().partition(f"\n### `{kind}`")[2].partition("\n##")[0]
    common = PAGE.read_text().partition("\n### All\n")[2].partition("\n##")[0]
    told = LINE.findall(section)
    told_of_all = {line[0]: line for line in LINE.findall(common)}
    known = [
        (one.name, str(one.default), str(one.metadata["least"]), str(one.metadata["most"]), one.metadata["meaning"])
        for one in fields(KINDS[kind])
    ]
    assert [one for one in known if one != told_of_all.get(one[0])] == told


MADE = [TraceRequest(at, size, 1, tuple(range(size))) for at, size in [(0.0, 5), (1.0, 10), (2.5, 20)]]


def test_arrivals_are_scaled() -> None:
    assert [one.arrival for one in scale_arrivals(MADE, 2)] == [0.0, 2.0, 5.0]
    assert [one.blocks for one in scale_arrivals(MADE, 0)] == [one.blocks for one in MADE]
    for wrong in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"factor: .* is not allowed"):
            scale_arrivals(MADE, wrong)


def test_the_first_requests_and_those_of_some_length_are_taken() -> None:
    assert first(MADE, 2) == MADE[:2]
    assert first(iter(MADE), 9) == MADE
    assert first(MADE, 0) == []
    assert between(MADE, 10, 20) == MADE[1:]
    assert between(MADE, 11, 19) == []
    with pytest.raises(ValueError, match="count: -1 is not allowed"):
        first(MADE, -1)
    with pytest.raises(ValueError, match="low: 3 is not allowed; it must be ≤ high, which is 2"):
        between(MADE, 3, 2)
