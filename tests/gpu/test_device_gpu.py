"""A GPU as the worker's device: streams, fences, pinned memory, and the moves of pages."""

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings

from cpu.freights import check_what_is_sent_arrives
from cpu.move_plans import plans, same, storage_on
from infergc.heap.moves import Move
from infergc.units import GIB, MIB
from infergc.worker.devices.copies import copy_runs
from infergc.worker.devices.cuda_device import CudaDevice
from infergc.worker.devices.device import HostDevice
from samples.gpu_here import needs_gpu

pytestmark = needs_gpu
CYCLES = 100_000_000  # of a GPU's clock: some 50 ms that it is busy


@pytest.fixture
def device() -> CudaDevice:
    return CudaDevice()


@pytest.mark.parametrize("kernels", [True, False])
@settings(max_examples=40)
@given(moves=plans)
def test_any_plan_gives_what_the_host_gives(kernels: bool, moves: tuple[Move, ...]) -> None:
    """By the kernel, and in torch, as where Triton is missing; stores and loads are among the moves."""
    device = CudaDevice()
    if not kernels:
        device._copies = copy_runs
    ours, theirs = storage_on(device), storage_on(HostDevice())
    ours.apply(moves)
    theirs.apply(moves)
    torch.cuda.synchronize()
    assert same(ours, theirs)


def test_memory_is_filled_before_a_thread_that_enters_writes_to_it(device: CudaDevice) -> None:
    """A stream of one's own does not wait for the default one, in which memory is set to zero."""
    for _ in range(10):
        memory = device.memory(GIB)
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(device.enter).result()
            thread.submit(memory[-MIB:].fill_, 7).result()
        torch.cuda.synchronize()
        assert bool((memory[-MIB:] == 7).all())
        del memory


def test_a_time_is_told_of_work_that_was_waited_for(device: CudaDevice) -> None:
    began = device.fence()
    torch.cuda._sleep(CYCLES)
    ended = device.fence()
    assert not ended.query()
    device.settle(ended)
    assert device.seconds(began, ended) > 0.005


def test_what_waits_for_a_fence_begins_behind_it(device: CudaDevice) -> None:
    """A thread's stream sees what another thread's stream was still at when the fence was made."""
    x = torch.zeros(MIB, device=device.place)
    torch.cuda.synchronize()
    torch.cuda._sleep(CYCLES)
    x += 1
    fence = device.fence()

    def other() -> float:
        device.wait(fence)
        return float((x * 2).sum())

    with ThreadPoolExecutor(max_workers=1) as thread:  # not by ``enter``, which would wait for all
        thread.submit(torch.cuda.set_stream, torch.cuda.Stream()).result()
        assert thread.submit(other).result() == 2.0 * MIB


def test_host_memory_is_pinned_and_copied_both_ways(device: CudaDevice) -> None:
    host = device.host_memory(8 * MIB)
    assert host.is_pinned()
    view = device.host_memory(MIB).view(torch.int32)
    assert view.is_pinned(), "as long as there is a view of it"
    there = torch.arange(8 * MIB, device=device.place).to(torch.uint8)
    host.copy_(there, non_blocking=True)
    back = torch.empty_like(there)
    back.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
    assert torch.equal(back, there)
    assert torch.equal(host, there.cpu())


def test_what_is_sent_arrives_whatever_is_sent_after_it(device: CudaDevice) -> None:
    torch.cuda._sleep(CYCLES)
    check_what_is_sent_arrives(device, range(1, 40))


def test_what_is_fetched_is_what_was_there(device: CudaDevice) -> None:
    """The tensor is let go of at once: its memory is written again only behind the copy."""
    fetched, fences = [], []
    for number in range(20):
        torch.cuda._sleep(CYCLES // 20)
        fetched.append(device.fetch(torch.full((1000,), number, device=device.place)))
        fences.append(device.fence())
        torch.full((1000,), -1, device=device.place)
    assert not fences[-1].query()
    for number, (array, fence) in enumerate(zip(fetched, fences, strict=True)):
        device.settle(fence)
        assert array.tolist() == [number] * 1000


def test_what_is_recorded_is_done_again_with_what_lies_there_then(device: CudaDevice) -> None:
    """By recorders that come and go, as storage does, and after a recording that failed."""
    x, out = torch.zeros(1000, device=device.place), torch.zeros(1000, device=device.place)

    def work() -> None:
        out.copy_(x * 2 + 1)

    def forbidden() -> None:
        out.copy_(x * int(x.sum()))

    def record_and_replay() -> None:
        device.enter()
        recorder = device.recorder()
        work()
        with pytest.raises(RuntimeError):
            recorder.record(forbidden)
        assert recorder.record(work) is work, "after one that failed, nothing is recorded"
        replay = device.recorder().record(work)
        for number in range(5):
            x.fill_(number)
            replay()
            assert out.tolist() == [2 * number + 1] * 1000

    with ThreadPoolExecutor(max_workers=1) as thread:
        for _ in range(3):
            thread.submit(record_and_replay).result()
            gc.collect()
    torch.zeros(64 * MIB, device=device.place)
    kept = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()  # it frees nothing while torch takes itself to be recording
    assert torch.cuda.memory_reserved() <= kept - 64 * MIB
