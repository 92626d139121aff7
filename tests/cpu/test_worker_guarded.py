"""Guarded storage: pages laid out as ever, poison in free ones, bands around."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from cpu.kv_store import model_of
from cpu.plans import GREEDY, Row, plan_of
from infergc.heap.errors import StorageCorruption
from infergc.heap.groups import GroupSpec
from infergc.heap.moves import Move, PageTable
from infergc.kernels.freight import Freight
from infergc.sched.plan import Binding, StepPlan
from infergc.worker.batch import lay_out_batch
from infergc.worker.debug.guarded import GuardedStorage
from infergc.worker.debug.guarded_forward import GuardedForward
from infergc.worker.devices.device import HostDevice
from infergc.worker.layers import Compute
from infergc.worker.memory.storage import KVStorage, LayerGroups

PAGE, PAGES = 8, 40
GROUPS = (GroupSpec("full", 4096, None, PAGES), GroupSpec("window", 4096, 12, PAGES))
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def storage_of(dtype: torch.dtype = torch.float32, kind: type[KVStorage] = GuardedStorage) -> KVStorage:
    model = model_of(3, dtype)
    groups = tuple(GroupSpec(spec.name, 0, spec.window, spec.capacity) for spec in GROUPS)
    return kind(model, LayerGroups(groups, (0, 1, 0)), groups, PAGE)


def guarded(dtype: torch.dtype = torch.float32) -> GuardedStorage:
    storage = storage_of(dtype)
    assert isinstance(storage, GuardedStorage)
    return storage


@DTYPES
def test_kernels_see_the_layout_that_they_see_without_guards(dtype: torch.dtype) -> None:
    plain, guards = storage_of(dtype, KVStorage), guarded(dtype)
    for layer in range(3):
        for x_NGPD, y_NGPD in zip(plain.layer(layer), guards.layer(layer), strict=True):
            assert (x_NGPD.shape, x_NGPD.stride(), x_NGPD.dtype) == (y_NGPD.shape, y_NGPD.stride(), y_NGPD.dtype)
            assert y_NGPD.is_contiguous()
            assert y_NGPD.data_ptr() % 4096 == x_NGPD.data_ptr() % 4096


@DTYPES
def test_what_is_free_reads_as_nan_and_so_does_what_lies_around(dtype: torch.dtype) -> None:
    storage = guarded(dtype)
    k_NGPD, _ = storage.layer(1)
    assert k_NGPD.isnan().all()
    around = k_NGPD.as_strided((k_NGPD.numel() + 200,), (1,), k_NGPD.storage_offset() - 100)
    assert around.isnan().all()
    assert len(around.view(torch.int16 if dtype.itemsize == 2 else torch.int32).unique()) == 2
    assert storage.inspect() == []


def test_every_tensor_has_memory_of_its_own() -> None:
    storage = guarded()
    tensors = [x_NGPD for layer in range(3) for x_NGPD in storage.layer(layer)]
    for group in range(2):
        storage.apply((Move("check", group, 0, PAGES - 1, PAGE),))
    for value, x_NGPD in enumerate(tensors):
        x_NGPD.fill_(value)
    assert [x_NGPD.unique().tolist() for x_NGPD in tensors] == [[value] for value in range(6)]
    assert storage.inspect() == []


@DTYPES
@pytest.mark.parametrize("page", [0, 17, PAGES - 1])
def test_a_check_names_what_was_written(dtype: torch.dtype, page: int) -> None:
    storage = guarded(dtype)
    storage.layer(2)[1][page, 1, 5, 3] = -1.0
    storage.layer(2)[1][page, 1, 6, 0] = 1.0
    storage.apply((Move("check", 1, 0, PAGES - 1, PAGE),))
    assert storage.take_findings() == []
    storage.apply((Move("check", 0, 0, PAGES - 1, PAGE),))
    (finding,) = storage.take_findings()
    assert (finding.group, finding.page) == (0, page)
    assert finding.what.startswith(f"page {page} of group full was written while it was free: 2 values, the first in V")
    assert "V of layer 2, head 1, token 5, dim 3" in finding.what
    assert ("0xbf80" if dtype is not torch.float16 else "0xbc00") in finding.what
    assert storage.take_findings() == []


def test_a_page_in_use_is_not_checked_until_it_was_poisoned_again() -> None:
    storage = guarded()
    storage.apply((Move("check", 0, 2, 3, PAGE),))
    storage.layer(0)[0][2:4] = 1.0
    storage.apply((Move("check", 0, 2, 2, PAGE),))  # the plan that freed it was lost on its way
    assert storage.inspect() == []
    storage.apply((Move("poison", 0, 3, 3, PAGE),))
    assert storage.layer(0)[0][3].isnan().all()
    storage.layer(0)[0][3, 0, 0, 0] = 1.0
    assert [finding.page for finding in storage.inspect()] == [3]


def test_moves_are_made_in_the_order_of_events() -> None:
    storage = guarded()
    storage.apply((Move("check", 0, 0, 1, PAGE),))
    storage.layer(0)[0][0] = 1.0
    copy = Move("copy", 0, 0, 1, PAGE)
    storage.apply((copy, Move("poison", 0, 0, 1, PAGE), Move("check", 0, 1, 1, PAGE), Move("check", 0, 0, 0, PAGE)))
    assert storage.take_findings() == []
    assert storage.layer(0)[0][:2].isnan().all()


@pytest.mark.parametrize("kv", [0, 1])
def test_a_breach_is_told_once_with_its_tensor_side_and_distance(kv: int) -> None:
    storage = guarded()
    x_NGPD = storage.layer(0)[kv]
    end = x_NGPD.storage_offset() + x_NGPD.numel()
    x_NGPD.as_strided((3,), (2,), end + 7).fill_(0.0)
    (finding,) = storage.breaches()
    assert finding.what == (
        f"written out of bounds: 3 values behind the last page of {'KV'[kv]} of layer 0 in group full, "
        "the nearest 8 values off"
    )
    assert storage.breaches() == []


def plan_over(pages: list[list[int]], starts: list[int], slots: Sequence[int] = range(9), step: int = 0) -> StepPlan:
    """One token a row, its pages one by one; the window's table is without what it cannot see."""
    rows = [Row(slot, start, [0], sample=True) for slot, start in zip(slots, starts, strict=False)]
    first = np.array(pages, np.int32)
    tables = tuple(PageTable(first, np.ones_like(first), np.zeros(len(rows), np.int32)) for _ in GROUPS)
    return plan_of(rows, step, tables)


def run_of(forward: GuardedForward, plan: StepPlan) -> torch.Tensor:
    freight = HostDevice().freight()
    compute, batch = forward(plan, freight), lay_out_batch(plan, freight)
    return compute(batch.token_ids(torch.zeros(16, dtype=torch.int32)), batch.positions_T.tensor)


def rows_of(error: StorageCorruption) -> list[int]:
    return [finding.row for finding in error.findings]


def test_rows_that_compute_nan_are_named_with_what_they_read_and_only_once() -> None:
    storage = guarded()
    for group in range(2):
        storage.apply((Move("check", group, 0, 5, PAGE),))
    for layer in range(3):
        for x_NGPD in storage.layer(layer):
            x_NGPD[:6] = 1.0
            x_NGPD[4, :, 1] = float("nan")  # the model's own
            x_NGPD[3, :, 2:] = x_NGPD[9, :, 2:]  # not written yet

    def forward(plan: StepPlan, freight: Freight) -> Compute:
        return lambda *_: torch.where(torch.from_numpy(plan.slots == 0)[:, None], 1.0, torch.nan).expand(-1, 4)

    guard = GuardedForward(forward, storage)
    pages, starts = [[0, 1], [2, 3], [4, 5]], [9, 10, 15]
    with pytest.raises(StorageCorruption) as caught:
        run_of(guard, plan_over(pages, starts))
    assert rows_of(caught.value) == [1, 2]
    reads, own = (finding.what for finding in caught.value.findings)
    assert reads == "row 1 reads poison at position 10: page 3 of group full"
    assert own.startswith("row 2 computes NaN, but all pages in its reach were written")
    assert run_of(guard, plan_over(pages, starts, step=1)).isnan().any(), "slots that are sick are not told again"


@pytest.mark.parametrize("lost", ["on its way", "half way"])
def test_slots_are_not_blamed_for_what_a_lost_step_did_not_write(lost: str) -> None:
    storage, fails = guarded(), [lost == "half way"]

    def forward(plan: StepPlan, freight: Freight) -> Compute:
        def compute(*_: torch.Tensor) -> torch.Tensor:
            if fails.pop():
                raise MemoryError("no memory")
            return torch.full((len(plan.slots), 4), torch.nan)

        return compute

    guard = GuardedForward(forward, storage)
    if lost == "half way":
        with pytest.raises(MemoryError):
            run_of(guard, plan_over([[0]], [3], slots=[2]))
    fails[:] = [False, False]
    bound = Binding(5, GREEDY, np.zeros(1, np.int32), np.zeros(0, np.int32))
    with pytest.raises(StorageCorruption) as caught:
        run_of(guard, replace(plan_over([[0], [1]], [4, 4], slots=[2, 5], step=1), bindings=(bound,)))
    assert rows_of(caught.value) == [1]
    bound = replace(bound, slot=2)
    with pytest.raises(StorageCorruption) as caught:
        run_of(guard, replace(plan_over([[0], [1]], [4, 4], slots=[2, 5], step=2), bindings=(bound,)))
    assert rows_of(caught.value) == [0]


def test_a_row_is_blamed_only_for_what_its_window_shows_it() -> None:
    storage = guarded()
    for group in range(2):
        storage.apply((Move("check", group, 0, 2, PAGE),))
    for layer in range(3):
        for x_NGPD in storage.layer(layer):
            x_NGPD[:3] = 1.0
    storage.layer(1)[0][0] = storage.layer(1)[0][9]  # positions 0 … 7: behind the window of position 20
    assert storage.poison_in_reach(plan_over([[0, 1, 2]], [20]), 0) is None
    finding = storage.poison_in_reach(plan_over([[0, 1, 2]], [18]), 0)
    assert finding is not None
    assert (finding.group, finding.page, finding.what.split(":")[0]) == (1, 0, "row 0 reads poison at position 7")
