"""The heap under --heap-debug: which pages it has poisoned and checked, in which order, and what it says of them."""

from typing import Any

import numpy as np
import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Ask
from infergc.heap.debug import DebugHeap
from infergc.heap.errors import Finding, HeapCorruption, StorageCorruption
from infergc.heap.moves import Move
from infergc.policies.retention.lru import Lru
from infergc.sched.plan import StepOutcome, StepPlan
from infergc.sim.executor import DoneFlight, SimExecutor
from samples.engines import make_engine, run, submit
from samples.heaps import P, begin, compute, open_stream, pages_held, small_shape


def debug_heap(*windows: int | None, **shape: Any) -> DebugHeap:
    return DebugHeap(small_shape(*windows, **shape), Lru())


def told(moves: tuple[Move, ...]) -> list[tuple[str, int, int]]:
    return [(move.kind, move.src, move.dst) for move in moves]


def test_pages_are_checked_when_handed_out_and_poisoned_when_freed() -> None:
    heap = debug_heap(caching=False)
    stream = open_stream(heap, range(20))
    assert told(compute(heap, stream, 20)) == [("check", 0, 2)]
    heap.close(stream)
    assert told(heap.take_moves()) == [("poison", 0, 2)]


def test_a_page_is_poisoned_only_when_the_last_step_that_reads_it_is_done() -> None:
    heap = debug_heap(caching=False)
    stream = open_stream(heap, range(20))
    first, _ = begin(heap, stream, 0, 19)
    second, _ = begin(heap, stream, 19, 20)
    heap.close(stream)
    heap.complete(first)
    assert heap.take_moves() == ()
    heap.complete(second)
    assert told(heap.take_moves()) == [("poison", 0, 2)]


def test_a_cached_page_is_poisoned_when_it_is_evicted_and_checked_before_its_new_use() -> None:
    heap = debug_heap(pages=4)
    old = open_stream(heap, range(32))
    compute(heap, old, 32)
    heap.close(old)
    assert heap.take_moves() == ()
    new = open_stream(heap, range(100, 108))
    assert told(compute(heap, new, 8)) == [("poison", 3, 3), ("check", 3, 3)]


def test_a_copy_stands_between_the_check_of_its_target_and_the_poison_of_its_source() -> None:
    heap = debug_heap()
    trunk = open_stream(heap, range(64))
    compute(heap, trunk, 4)
    branch = heap.fork(trunk, "branch")
    assert branch is not None
    step, moves = begin(heap, branch, 4, 6)
    source, target = pages_held(heap, trunk)[0], pages_held(heap, branch)[0]
    assert told(moves) == [("check", target, target), ("copy", source, target)]
    heap.close(trunk)
    assert heap.take_moves() == ()  # the copy keeps its source
    heap.complete(step)
    assert told(heap.take_moves()) == [("poison", source, source)]


def test_a_copy_that_is_given_up_in_the_same_plan_is_poisoned_after_it_is_made() -> None:
    heap = debug_heap(pages=3)
    trunk = open_stream(heap, range(64))
    compute(heap, trunk, 4)
    branch = heap.fork(trunk, "branch")
    assert branch is not None
    assert heap.reserve([(branch, 6)])
    target = pages_held(heap, branch)[0]
    heap.close(branch)
    late = open_stream(heap, range(200, 264))
    _, moves = begin(heap, late, 0, 2 * P)
    kinds = [move.kind for move in moves if move.src <= target <= move.dst or move.dst == target]
    assert kinds == ["check", "copy", "poison", "check"]


def test_a_second_release_is_refused_with_the_first_ones_place() -> None:
    heap = debug_heap(caching=False)
    stream = open_stream(heap, range(20), "r7")
    compute(heap, stream, 20)
    heap.close(stream)
    with pytest.raises(HeapCorruption, match=r"law 2: freed twice: page 1 .* freed in step 1 by Holdings\.close"):
        heap.groups[0].release([(1, 1)])
    with pytest.raises(HeapCorruption, match=r"law 1: freed twice: page 1 of group g0"):
        heap.groups[0].space.give(1, 1)
    with pytest.raises(HeapCorruption, match=r"used after it was freed: page 2 .* written in step 0 by sr7"):
        heap.groups[0].retain([(2, 1)])
    heap.check()


def test_a_finding_is_told_with_its_request_and_what_became_of_its_page() -> None:
    heap = debug_heap(caching=False)
    stream = open_stream(heap, range(20), "r1")
    compute(heap, stream, 20)
    heap.close(stream)
    other = open_stream(heap, range(20), "r2")
    step, _ = begin(heap, other, 0, 20)
    message = heap.explain(step, StorageCorruption([Finding("damaged", 0, 1), Finding("NaN", row=0)]))
    damaged, nan = message.split("; ")
    assert damaged.startswith("damaged | page 1 of group g0: written in step 1 by sr2, handed out in step 1 by Heap.")
    assert "freed in step 1 by Holdings.close < " in damaged
    assert "written in step 0 by sr1, handed out in step 0 by Heap." in damaged
    assert nan == "NaN | row 0 is request sr2"


def test_many_findings_are_told_in_part() -> None:
    error = StorageCorruption([Finding(f"page {at}", 0, at) for at in range(9)])
    assert str(error) == "page 0; page 1; page 2; page 3; and 5 more"
    assert len(error.findings) == 9


def test_debugging_changes_no_plan() -> None:
    def plans(**settings: Any) -> list[Any]:
        seen: list[StepPlan] = []

        class Watching(SimExecutor):
            def launch(self, plan: StepPlan) -> DoneFlight:
                seen.append(plan)
                return super().launch(plan)

        engine = make_engine(pages=12, executor_class=Watching, pipeline_depth=2, **settings)
        prompts = [[(at * number) % 50 for at in range(20 + number)] for number in range(8)]
        run(engine, [submit(f"r{at}", prompt, max_tokens=30) for at, prompt in enumerate(prompts)])
        assert engine.scheduler.counters.preemptions > 0
        return [(p.slots.tolist(), p.starts.tolist(), [t.first.tolist() for t in p.tables], copies(p)) for p in seen]

    def copies(plan: StepPlan) -> list[Move]:
        return [move for move in plan.moves if move.kind == "copy"]

    assert plans(heap_debug=True) == plans()


class Damaged(SimExecutor):
    """Its third step finds a page damaged, and so does whoever looks."""

    def launch(self, plan: StepPlan) -> DoneFlight:
        return Broken(super().launch(plan).result()) if plan.step == 2 else super().launch(plan)

    def inspect(self) -> tuple[Finding, ...]:
        return (Finding("page 1 is damaged", 0, 1),)


class Broken(DoneFlight):
    def result(self) -> StepOutcome:
        raise StorageCorruption([Finding("page 0 is damaged", 0, 0), Finding("NaN", row=0)])


def counted(engine: Engine) -> int:
    stats = engine.step().stats
    assert stats is not None
    return int(stats["counters"]["corruptions"])


def test_a_damaged_step_ends_its_requests_and_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine(executor_class=Damaged, heap_debug=True, max_num_seqs=1)
    results = run(engine, [submit("a", [1] * 5, max_tokens=20), submit("b", [2] * 5, max_tokens=20)])
    assert results.finish == {"a": "error", "b": "length"}
    error = results.errors["a"]
    assert error.startswith("StorageCorruption: step 2: page 0 is damaged | page 0 of group full: written in step 2 by")
    assert error.endswith("; NaN | row 0 is request a")
    assert [record.getMessage() for record in caplog.records] == [error]
    assert counted(engine) == 2


def test_without_a_debug_heap_a_finding_is_told_as_it_is() -> None:
    engine = make_engine(executor_class=Damaged)
    results = run(engine, [submit("a", [1] * 5, max_tokens=20)])
    assert results.errors == {"a": "StorageCorruption: step 2: page 0 is damaged; NaN"}


def test_storage_is_looked_at_on_demand() -> None:
    engine = make_engine(executor_class=Damaged, heap_debug=True)
    assert engine.step([Ask(1, "verify")]).answers[0].value == "page 1 is damaged"
    assert counted(engine) == 1
    assert make_engine(heap_debug=True).step([Ask(1, "verify")]).answers[0].value == ""


def test_steps_without_rows_are_noted_too() -> None:
    heap = debug_heap()
    nothing = np.empty(0, np.int32)
    heap.begin_step(nothing, nothing, nothing)
    heap.complete(0)
    assert heap.journal.step == 1
