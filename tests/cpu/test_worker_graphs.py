"""Decode steps that are recorded: the same texts as launch by launch, and the same addresses at every replay.

There is no CUDA here: a device of these tests replays by doing the work again, and fails where a CUDA graph would read
memory that is not what it was.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cpu.families import make_family
from cpu.plans import GREEDY, Planner, Row, greedy_streams, plan_of
from cpu.triton_interpreter import TritonAttention
from infergc.config import engine_config
from infergc.heap.moves import PageTable
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.freight import Direct, Parcel
from infergc.params import SamplingParams
from infergc.sched.plan import Binding, StepPlan
from infergc.worker import graphs
from infergc.worker.devices.device import HostDevice
from infergc.worker.executor import TorchExecutor
from infergc.worker.factory import create_executor
from infergc.worker.graphs import DecodeGraphs, Size
from infergc.worker.startup.rehearsal import Rehearsal

PROMPTS = [[9, 8, 7] * 19, [40, 41, 42]]  # the first is longer than the window and a page


class Outside(TorchDispatchMode):
    """Notes where tensors lie that operations read and that were not made within."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []
        self._made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        storages = [tensor.untyped_storage().data_ptr() for tensor in found]
        self.read += [storage for storage in storages if storage not in self._made]
        out = func(*args, **kwargs)
        made = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)}
        self._made |= made - set(storages)
        return out


class Recorder(HostDevice):
    """Replays by doing the work again, once it has seen that a graph would read the same."""

    records = True

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def recorder(self) -> "Recorder":
        return self

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        first: list[int] = []

        def replay() -> None:
            with Outside() as outside:
                work()
            first.extend(outside.read if not first else [])
            assert set(outside.read) <= set(first), "a graph would read what lies elsewhere now"
            self.replayed += 1

        return replay


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("qwen2_mixed", tmp_path_factory.mktemp("model"), eos_token_id=[7, 9])


@pytest.fixture
def executor(directory: Path) -> Iterator[TorchExecutor]:
    executor = executor_for(directory)  # not with Triton's from the start: its interpreter rehearses for a minute
    spec = executor.decoder.spec
    needs = AttentionNeeds("cpu", spec.dtype, spec.num_heads, spec.num_kv_heads, spec.head_dim, 16)
    executor.attention = TritonAttention(needs)
    executor.device = Recorder()
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def expected(directory: Path) -> list[list[int]]:
    """What the prompts go on with, by the reference and step by step."""
    executor = executor_for(directory)
    streams = greedy_streams(executor, planner_for(executor), PROMPTS, new_tokens=6, chunk=64)
    executor.close()
    assert len(set(streams[0])) > 3
    return streams


def executor_for(directory: Path) -> TorchExecutor:
    return create_executor(engine_config(model=directory, dtype="float32", threads=1, attention_backend="reference"))


def planner_for(executor: TorchExecutor) -> Planner:
    planner = Planner(executor.facts.groups, 16, slots=4, max_len=128)
    executor.allocate(planner.groups, 4)
    return planner


def forward_of(executor: TorchExecutor) -> DecodeGraphs:
    assert executor._runner is not None
    (found,) = (
        cell.cell_contents
        for cell in executor._runner._forward.__closure__
        if isinstance(cell.cell_contents, DecodeGraphs)
    )
    return found


def test_texts_are_those_of_steps_that_are_not_recorded(executor: TorchExecutor, expected: list[list[int]]) -> None:
    assert greedy_streams(executor, planner_for(executor), PROMPTS, new_tokens=6, chunk=64) == expected
    device = executor.device
    assert isinstance(device, Recorder)
    assert device.recorded == 1, "both rows are of one size"
    assert device.replayed == 4, "of five decode steps the first is launched by itself"


def test_rows_that_come_and_go_take_graphs_of_other_sizes(executor: TorchExecutor, expected: list[list[int]]) -> None:
    """Prompts in chunks: one decodes while the other is at its prompt, which no graph computes."""
    assert greedy_streams(executor, planner_for(executor), PROMPTS, new_tokens=6, chunk=20) == expected
    assert [size.rows for size in forward_of(executor)._graphs] == [2, 1]


def one_token(planner: Planner, rows: int) -> StepPlan:
    bindings = tuple(Binding(slot, GREEDY, np.zeros(1, np.int32), np.zeros(0, np.int32)) for slot in range(rows))
    return planner.plan([Row(slot, 0, [5 + slot], sample=True) for slot in range(rows)], bindings)


def test_sizes_beyond_the_most_are_computed_all_the_same(
    executor: TorchExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_MOST_GRAPHS", 2)
    planner = planner_for(executor)
    told = [executor.launch(one_token(planner, rows)).result().tokens.tolist() for rows in (1, 2, 3, 3, 2, 1)]
    assert [size.rows for size in forward_of(executor)._graphs] == [1, 2]
    assert told[0] == told[5] == told[2][:1]
    assert told[1] == told[4] == told[3][:2]


def test_where_recording_fails_steps_are_launched_one_by_one(
    executor: TorchExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def record(work: Callable[[], None]) -> Callable[[], None]:
        work()  # half way
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(executor.device, "record", record)
    planner = planner_for(executor)
    told = [executor.launch(one_token(planner, 2)).result().tokens.tolist() for _ in range(4)]
    assert told[0] == told[1] == told[2] == told[3]
    assert "--enforce-eager" in caplog.text


def test_what_the_device_has_to_know_of_a_step_goes_at_once(
    executor: TorchExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One freight a step, that leaves once; nothing is added to it afterwards."""
    sent: list[int] = []

    class Counted(Direct):
        def __init__(self) -> None:
            super().__init__("cpu")
            self._added = 0

        def add(self, array: np.ndarray) -> Parcel:
            self._added += 1
            return super().add(array)

        def send(self) -> None:
            sent.append(self._added)
            monkeypatch.setattr(self, "add", None)

    monkeypatch.setattr(executor.device, "freight", Counted)
    planner, drawn = planner_for(executor), SamplingParams(temperature=0.7, top_p=0.9, seed=3, max_tokens=None)
    rows = [Row(0, 0, [9, 8, 7], sample=True), Row(1, 0, [5], sample=True)]
    for _ in range(3):
        bindings = tuple(Binding(slot, drawn, np.zeros(3, np.int32), np.zeros(0, np.int32)) for slot in range(2))
        executor.launch(planner.plan(rows, bindings)).result()
        executor.launch(one_token(planner, 2)).result()
    assert len(sent) == 6


def test_a_step_that_attention_refuses_is_refused_when_it_is_replayed(executor: TorchExecutor) -> None:
    planner = planner_for(executor)
    binding = Binding(0, GREEDY, np.zeros(1, np.int32), np.zeros(0, np.int32))
    for _ in range(3):
        executor.launch(planner.plan([Row(0, 0, [5], sample=True)], (binding,))).result()
    beyond = PageTable(np.array([[10_000]], np.int32), np.ones((1, 1), np.int32), np.zeros(1, np.int32))
    plan = plan_of([Row(0, 0, [5], sample=True)], 4, (beyond, beyond))
    with pytest.raises(ValueError, match="the page table names a page that storage does not have"):
        executor.launch(plan).result()


@pytest.mark.parametrize("rows", range(1, 300))
def test_few_rows_of_a_graph_stay_empty(rows: int) -> None:
    size = Size.of(rows, rows)
    assert rows <= size.rows <= 1.25 * rows
    assert Size.of(size.rows, rows) == size


@pytest.mark.parametrize("positions", [1, 255, 256, 257, 5000, (1 << 21) - 1, 1 << 21])
def test_graphs_hold_the_positions_asked_for(positions: int) -> None:
    for rows in (1, 3, 33, 256):
        held = Size.of(rows, positions).positions
        assert held >= positions
        assert held <= max(2 * positions, 320 * 256)


def test_graphs_are_few() -> None:
    sizes = {Size.of(rows, rows * context) for rows in range(1, 257) for context in (1, 100, 500, 2000, 8000, 100_000)}
    assert len({size.rows for size in sizes}) < 30
    assert len(sizes) < 140


def test_a_rehearsal_runs_the_widest_decode_step_twice(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is recorded, also where the longest ones hold too many positions for that."""
    executor = executor_for(directory)
    executor.device = Recorder()
    plans: list[StepPlan] = []
    launch = executor.launch
    monkeypatch.setattr(executor, "launch", lambda plan: plans.append(plan) or launch(plan))
    Rehearsal(tokens=8, slots=3, longest=60, page_tokens=16, lone_rows=2).run(executor)
    executor.close()
    decoded = [(len(plan.counts), int(plan.starts.max())) for plan in plans if plan.counts.max() == 1]
    assert decoded == [(2, 59), (2, 59), (3, 0), (3, 0)]


def test_without_a_device_that_records_there_are_none(executor: TorchExecutor) -> None:
    executor.device = HostDevice()
    planner_for(executor)
    with pytest.raises(ValueError, match="not enough values"):
        forward_of(executor)
