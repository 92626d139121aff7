"""The device that does everything late: what it promises, and ``CudaDevice`` on it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu.freights import check_what_is_sent_arrives
from cpu.lazy_device import LazyDevice, lazily
from cpu.lazy_streams import COPIER, EXTREMES, LATE, WORKER, DeviceError, Schedule, Stream, some_order
from cpu.lazy_tensors import PLACE, LazyTensor
from cpu.move_plans import plans, same, storage_on
from infergc.heap.moves import Move
from infergc.worker.devices.device import HostDevice, drain


@pytest.fixture
def device() -> Iterator[LazyDevice]:
    with lazily(LATE) as device:
        yield device


def streams(device: LazyDevice) -> tuple[Stream, Stream]:
    """Two, for which nothing that was given before is left to do."""
    device.machine.synchronize()
    return device.machine.stream(), device.machine.stream()


# ---- streams


@pytest.mark.parametrize("waits", [False, True])
def test_a_stream_sees_what_another_wrote_only_behind_its_fence(device: LazyDevice, waits: bool) -> None:
    x = torch.zeros(3, device=PLACE)
    one, other = streams(device)
    device.machine.use(one)
    x += 1
    fence = device.fence()
    device.machine.use(other)
    if waits:
        device.wait(fence)
    found = device.fetch(x)
    drain(device)
    assert found.tolist() == [float(waits)] * 3
    assert one.done == (one.given if waits else 0)


def test_what_stands_behind_a_fence_is_not_waited_for(device: LazyDevice) -> None:
    x = torch.zeros(3, device=PLACE)
    one, other = streams(device)
    device.machine.use(one)
    x += 1
    fence = device.fence()
    x += 1
    device.machine.use(other)
    device.wait(fence)
    found = device.fetch(x)
    drain(device)
    assert found.tolist() == [1.0] * 3


def test_what_is_fetched_is_there_when_it_was_waited_for(device: LazyDevice) -> None:
    found = device.fetch(torch.full((4,), 7, dtype=torch.int32, device=PLACE))
    fence = device.fence()
    assert 7 not in found.tolist()
    device.settle(fence)
    assert found.tolist() == [7] * 4


@pytest.mark.parametrize("pinned", [False, True])
def test_pinned_memory_is_read_late_and_other_memory_at_once(device: LazyDevice, pinned: bool) -> None:
    source = device.host_memory(8) if pinned else torch.zeros(8, dtype=torch.uint8)
    there = torch.empty(8, dtype=torch.uint8, device=PLACE)
    there.copy_(source, non_blocking=True)
    source += 5
    assert len(device.machine.host_waits) == (not pinned)
    assert there.tolist() == [5 * pinned] * 8
    assert device.machine.uploads == [device.machine.default.name]


@pytest.mark.parametrize(
    ("eager", "done"),
    [({}, (0, 0)), ({WORKER: 1.0}, (2, 0)), ({COPIER: 1.0}, (1, 2)), ({WORKER: 1, COPIER: 1}, (2, 2))],
)
def test_a_schedule_says_who_goes_on_and_takes_along_what_it_waits_for(
    eager: dict[str, float], done: tuple[int, int]
) -> None:
    with lazily(Schedule("test", eager)) as device:
        x = torch.zeros(3, device=PLACE)
        worker, copier = streams(device)
        worker.name, copier.name = WORKER, COPIER
        device.machine.use(worker)
        fence = device.fence()
        x += 1
        device.machine.use(copier)
        device.wait(fence)
        x.add_(1)
        assert (worker.done, copier.done) == done


def test_a_thread_that_enters_waits_for_all_that_was_given(device: LazyDevice) -> None:
    memory = device.memory(100)
    assert not device.machine.is_idle
    device.enter()
    assert device.machine.is_idle
    memory.fill_(3)
    assert memory.tolist() == [3] * 100


def test_a_time_is_told_of_fences_that_were_reached(device: LazyDevice) -> None:
    began = device.fence()
    torch.zeros(3, device=PLACE)
    ended = device.fence()
    with pytest.raises(DeviceError, match="not ready"):
        device.seconds(began, ended)
    device.settle(ended)
    assert device.seconds(began, ended) > 0


def test_who_waits_learns_of_work_that_failed_and_so_does_everybody_after_that(device: LazyDevice) -> None:
    ids = torch.full((2,), 9, device=PLACE)
    torch.nn.functional.embedding(ids, torch.zeros(3, 4, device=PLACE))
    for _ in range(2):
        with pytest.raises(DeviceError, match="IndexError"):
            drain(device)


# ---- tensors


def test_tensors_of_another_stream_are_noticed(device: LazyDevice) -> None:
    """Their memory is used again in the order of the stream that made them."""
    one, other = streams(device)
    device.machine.use(one)
    x = torch.zeros(3, device=PLACE)
    device.machine.use(other)
    assert not device.machine.crossed
    x[1:] += 1
    assert device.machine.crossed


def test_tensors_of_two_devices_do_not_meet(device: LazyDevice) -> None:
    with pytest.raises(RuntimeError, match="on the same device"):
        torch.zeros(3, device=PLACE) + torch.zeros(3)


WAITS: dict[str, Callable[[torch.Tensor], Any]] = {
    "values": lambda x: x.tolist(),
    "a number": lambda x: float(x[1]),
    "a comparison": lambda x: bool((x > 0).any()),
    "rows by a mask": lambda x: x[x > 1],
    "writing by a mask": lambda x: x.index_put_((x > 1,), x[:1]),
    "places": lambda x: x.nonzero(),
    "a copy from memory that is not pinned": lambda _: torch.ones(3).to(PLACE),
    "a copy to memory that is not pinned": lambda x: torch.empty(3).copy_(x, non_blocking=True),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_makes_a_thread_wait_is_counted(device: LazyDevice, name: str) -> None:
    x = torch.arange(3, device=PLACE).float()
    waits = len(device.machine.host_waits)
    WAITS[name](x)
    assert len(device.machine.host_waits) > waits


WORK: dict[str, Callable[[torch.device], torch.Tensor]] = {
    "views": lambda at: torch.arange(24, device=at).view(2, 3, 4).transpose(1, 2)[:, 1:].flatten(1),
    "written through a view": lambda at: _then(torch.zeros(4, 6, device=at), lambda x: x[1:3].t().add_(2)),
    "bytes": lambda at: torch.arange(4, device=at).view(torch.uint8).view(-1, 8)[:, 0],
    "rows": lambda at: torch.eye(4, device=at)[torch.tensor([3, 1]).to(at)],
    "rows written": lambda at: _then(
        torch.zeros(4, 2, device=at), lambda x: x.__setitem__(torch.tensor([3, 1]).to(at), torch.ones(2, 2, device=at))
    ),
    "products": lambda at: torch.arange(6.0, device=at).view(2, 3) @ torch.ones(3, 2, device=at),
    "softmax": lambda at: torch.arange(6.0, device=at).view(2, 3).softmax(-1),
    "chosen": lambda at: torch.where(torch.arange(4, device=at) > 1, 5.0, torch.zeros(4, device=at)),
    "sums": lambda at: torch.arange(4, device=at, dtype=torch.int32).cumsum(0),
    "parts": lambda at: torch.cat(torch.arange(6, device=at).chunk(3)[::-1]),
    "the largest": lambda at: torch.tensor([3.0, 9.0, 4.0]).to(at).topk(2).values,
    "types": lambda at: (torch.arange(3, device=at) * 1.5).to(torch.bfloat16).float(),
}  # fmt: skip


def _then(x: torch.Tensor, change: Callable[[torch.Tensor], Any]) -> torch.Tensor:
    change(x)
    return x


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", WORK)
def test_work_that_is_done_late_gives_what_it_gives_on_the_host(device: LazyDevice, name: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        found, wanted = WORK[name](PLACE), WORK[name](torch.device("cpu"))
        assert isinstance(found, LazyTensor)
        assert (found.shape, found.dtype, found.stride()) == (wanted.shape, wanted.dtype, wanted.stride())
        assert found.cpu().equal(wanted)


# ---- CudaDevice on it


@settings(max_examples=30, deadline=None)
@given(moves=plans, order=st.sampled_from([*EXTREMES, some_order(0)]))
def test_any_moves_give_what_the_host_gives(moves: tuple[Move, ...], order: Schedule) -> None:
    theirs = storage_on(HostDevice())
    theirs.apply(moves)
    with lazily(order) as device:
        ours = storage_on(device)
        ours.apply(moves)
        device.machine.synchronize()
        assert same(ours, theirs)


def test_what_is_sent_arrives_whatever_is_sent_after_it(device: LazyDevice) -> None:
    check_what_is_sent_arrives(device, (1, 2, 3, 4, 4, 4, 4, 4, 4, 9, 9, 9, 9, 9))
