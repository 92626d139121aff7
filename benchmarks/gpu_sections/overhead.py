"""What the engine adds to what the device computes: the collector on and off, and the host's share of a step.

The host's share is what of a step no kernel runs. It comes from rounds that differ in the length of outputs alone: the
time of their kernels, as the profiler counts it in rounds of its own, over the time of the rounds without profiler.
Prefill, beginning and end are the same in both and fall out.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from statistics import median
from time import perf_counter
from typing import Any

import torch
from collector_cost import rounds as collector_rounds

from gpu_sections.engines import Ours
from gpu_sections.models import NoRoomError, model_directory
from infergc.bench.gpu.figure import Figure, left_out, of_rounds
from infergc.bench.gpu.section import Setting
from infergc.bench.workload import Load
from infergc.engine.ports import Sink
from infergc.sched.plan import StepOutcome, StepPlan

SEATS = 256
HOST_BAR, COLLECTOR_BAR = 5.0, 1.0  # per cent
_MINOR_PAGES = 64  # births until a collection: fewer than by default, so that the collector is at work
_INPUT = 128


class StepTimes(Sink):
    """Notes of each step its rows and tokens, when it landed, and what it took on the device."""

    def __init__(self) -> None:
        self._planned: deque[tuple[int, int]] = deque()
        self.steps: list[tuple[int, int, float, float]] = []

    def planned(self, plan: StepPlan) -> None:
        """See ``Sink``."""
        self._planned.append((len(plan.slots), plan.tokens))

    def landed(self, outcome: StepOutcome) -> None:
        """See ``Sink``."""
        self.steps.append((*self._planned.popleft(), perf_counter(), outcome.seconds))

    def decodes(self, rows: int) -> list[tuple[float, float]]:
        """Seconds from landing to landing, and on the device, of steps in which so many rows computed one token."""
        found = []
        for before, step in zip(self.steps, self.steps[1:], strict=False):
            if before[:2] == step[:2] == (rows, rows):
                found.append((step[2] - before[2], step[3]))
        return found


class Rounds:
    """Rounds of a full house through one engine.

    Args:
        ours: the engine.
        seats: requests.
    """

    def __init__(self, ours: Ours, seats: int) -> None:
        self._ours, self._seats, self._number = ours, seats, 0

    def seconds(self, count: int) -> float:
        """Of a round with so many output tokens each."""
        load = Load(self._seats, _INPUT, count)
        self._number += 1
        prompts = load.prompts(self._number, self._ours.engine.ready.vocab_size)
        began = perf_counter()
        self._ours.generate(prompts, count)
        return perf_counter() - began

    def kernels(self, count: int) -> float:
        """Seconds in which at least one kernel or copy ran, of another such round."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            self.seconds(count)
            torch.cuda.synchronize()
        return kernel_seconds(profile.events())


def kernel_seconds(events: Iterable[Any]) -> float:
    """Seconds in which the device ran anything, of what a profiler saw.

    Raises:
        RuntimeError: it saw nothing there.
    """
    on_device = torch.autograd.DeviceType.CUDA
    spans = [(each.time_range.start, each.time_range.end) for each in events if each.device_type == on_device]
    if not spans:
        raise RuntimeError("the profiler saw no kernels")
    return covered(spans) / 1e6


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def measure(setting: Setting) -> Iterator[Figure]:
    """The host's share first, then the collector."""
    seats, short, long = (4, 2, 6) if setting.quick else (SEATS, 32, 96)
    try:
        model = model_directory("1b", setting)
    except NoRoomError as error:
        yield left_out("all", str(error))
        return
    times, longest = StepTimes(), _INPUT + 2 * long
    ours = Ours(model, setting, seats, 2 * seats * longest, longest, [times], gc_minor_pages=_MINOR_PAGES)
    yield from host(Rounds(ours, seats), times, seats, (short, long), on_gpu=setting.device == "cuda")
    load = Load(seats, _INPUT, short)
    yield collector(ours, load, setting)
    ours.close()


def host(rounds: Rounds, times: StepTimes, seats: int, counts: tuple[int, int], *, on_gpu: bool) -> Iterator[Figure]:
    """What of a decode step is not the device's."""
    short, long = counts
    rounds.seconds(short)  # warms up
    times.steps.clear()
    walls = [(rounds.seconds(long) - rounds.seconds(short)) / (long - short) for _ in range(5)]
    decodes = times.decodes(seats)
    if decodes:
        yield of_rounds(f"decode step of {seats}", [1e3 * wall for wall, _ in decodes][-50:], "ms")
        share = 100 * (1 - sum(device for _, device in decodes) / sum(wall for wall, _ in decodes))
        note = "of the time from landing to landing"
        yield Figure(f"between steps of {seats}", share, "%", note=note)
    what = f"host overhead, steps of {seats}"
    if not on_gpu:
        yield left_out(what, "the profiler counts kernels of CUDA alone")
        return
    busy = (rounds.kernels(long) - rounds.kernels(short)) / (long - short)
    shares = [100 * (1 - busy / wall) for wall in walls]
    yield of_rounds(
        what, shares, "%", bar=HOST_BAR, at_most=True, note=f"of {1e3 * median(walls):.2f} ms no kernel runs"
    )


def collector(ours: Ours, load: Load, setting: Setting) -> Figure:
    """Tokens a second with the collector off over on, in pairs of rounds, as many as there is time for."""
    began = perf_counter()
    ours.generate(load.prompts(-2, ours.engine.ready.vocab_size), load.output_len)
    pair = 2 * (perf_counter() - began)
    pairs = 2 if setting.quick else max(2, min(20, int((setting.left - 5) / pair)))
    ratios, share, collections = collector_rounds(ours.engine, load, pairs)
    note = f"{collections} collections, {share:.3%} of the time"
    costs = [100 * (1 - ratio) for ratio in ratios]
    return of_rounds("collector on, slower by", costs, "%", bar=COLLECTOR_BAR, at_most=True, note=note)
