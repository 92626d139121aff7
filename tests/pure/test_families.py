"""Choices of one request, and the hypotheses of a search, give way together and come back together."""

from collections import defaultdict
from typing import Any

import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.sched.families import kin
from infergc.sched.request import Request, Status
from samples.engines import make_engine, run, submit


def crowd(**family: Any) -> list[Submit]:
    """Requests alone, and among them some with families."""
    alone = [submit(f"a{at}", [at + 1] * 20, max_tokens=90) for at in range(4)]
    families = [submit(f"f{at}", [at + 7] * 20, max_tokens=70, **family) for at in range(2)]
    return [alone[0], families[0], *alone[1:3], families[1], alone[3]]


def split_families(engine: Engine) -> list[str]:
    """Families of which some run and others, that ran before, do not, though somebody else runs."""
    scheduler = engine.scheduler
    everybody = [*scheduler.running, *scheduler.waiting]
    found = []
    for request in everybody:
        members = [one for one in kin(request) if one.status in {Status.RUNNING, Status.WAITING}]
        running = [one for one in members if one.status is Status.RUNNING]
        preempted = [one for one in members if one.status is Status.WAITING and one.preemptions]
        if running and preempted and len(running) < len(scheduler.running):
            found.append(request.id)
    return found


@pytest.mark.parametrize("family", [{"n": 3}, {"n": 4, "temperature": 1.0}])
@pytest.mark.parametrize("mode", ["swap", "recompute"])
def test_choices_leave_together_and_come_back_together(mode: str, family: dict[str, Any]) -> None:
    roomy = run(make_engine(pages=400, max_num_seqs=16), crowd(**family))
    engine = make_engine(
        pages=36, max_num_seqs=16, host_cache_memory=400_000, preemption=mode, admission_policy="page-each"
    )
    told: defaultdict[str, list[int]] = defaultdict(list)
    outputs = engine.step(crowd(**family))
    apart, most = 0, 0
    while engine.has_work():
        for delta in outputs.news():
            told[delta.request_id] += delta.tokens
        engine.heap.check()
        most = max([most, *(request.preemptions for request in engine.scheduler.waiting)])
        apart = apart + 1 if split_families(engine) else 0
        assert apart <= 2, "a family that stands apart for long only holds memory"
        outputs = engine.step()
    for delta in outputs.news():
        told[delta.request_id] += delta.tokens
    assert most > 0, "nobody gave way"
    assert dict(told) == roomy.tokens


def test_a_family_too_large_for_memory_goes_on_one_by_one() -> None:
    load = [submit("f", [7] * 20, max_tokens=100, n=4)]
    roomy = run(make_engine(pages=400), load)
    engine = make_engine(pages=16, max_num_seqs=8, admission_policy="page-each")
    assert run(engine, load).tokens == roomy.tokens
    assert engine.scheduler.counters.preemptions > 0


def test_a_family_is_found_from_each_of_its_members() -> None:
    engine = make_engine(pages=200)
    engine.step([submit("f", [7] * 20, max_tokens=30, n=3)])
    engine.step()
    running: list[Request] = list(engine.scheduler.running)
    names = {request.id: sorted(one.id for one in kin(request)) for request in running}
    assert set(map(tuple, names.values())) == {("f#0", "f#1", "f#2")}
