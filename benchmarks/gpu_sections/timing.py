"""Seconds of work on a device, and what the device can do: copy bandwidth and matrix rate."""

from collections.abc import Callable
from time import perf_counter

import torch

_AHEAD = 12  # products of 8192³ before what is timed: about 20 ms on a large GPU
_FLUSHED = 512 << 20  # bytes read before each repeat: several times any L2. Written ones would go back meanwhile

Work = Callable[[], object]


class Stopwatch:
    """Times work by the device's own clock.

    On a GPU other memory is read before each repeat, so that nothing is found in L2. The host is given a head start by
    products before the first: no repeat waits for its launches, which Python makes more slowly than a GPU runs them.
    And all is done twice, once untimed: the second time torch has pinned whatever memory so many repeats pin at once.

    Args:
        device: ``cuda`` or ``cpu``.
    """

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        if self._on_gpu:
            self._flushed = torch.zeros(_FLUSHED // 4, dtype=torch.float32, device=device)
            self._factor = torch.randn(8192, 8192, dtype=torch.bfloat16, device=device)
            self._product = torch.empty_like(self._factor)

    def seconds(self, work: Work, repeats: int) -> list[float]:
        """Of each repeat, after one that is not timed."""
        work()
        if not self._on_gpu:
            return self._by_clock(work, repeats)
        self._by_events(work, repeats)
        return self._by_events(work, repeats)

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self._on_gpu:
            torch.cuda.synchronize()

    def _by_events(self, work: Work, repeats: int) -> list[float]:
        pairs = [(_event(), _event()) for _ in range(repeats)]
        torch.cuda.synchronize()
        for _ in range(_AHEAD):
            torch.mm(self._factor, self._factor, out=self._product)
        for began, ended in pairs:
            self._flushed.sum()
            began.record()
            work()
            ended.record()
        torch.cuda.synchronize()
        return [began.elapsed_time(ended) / 1e3 for began, ended in pairs]

    @staticmethod
    def _by_clock(work: Work, repeats: int) -> list[float]:
        found = []
        for _ in range(repeats):
            began = perf_counter()
            work()
            found.append(perf_counter() - began)
        return found


class Ceilings:
    """What the device reaches at most.

    Args:
        device: where.
        dtype: of the matrices.
        size: bytes that are copied.
        width: of square matrices.
    """

    def __init__(self, device: str, dtype: torch.dtype, size: int, width: int) -> None:
        self._watch = Stopwatch(device)
        self._source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
        self._target = torch.empty_like(self._source)
        self._a, self._b = (torch.randn(width, width, dtype=dtype, device=device) for _ in range(2))
        self._c = torch.empty_like(self._a)

    def bandwidth(self, repeats: int = 5) -> float:
        """Bytes a second of a copy within the device, read and written both counted."""
        seconds = self._watch.seconds(lambda: self._target.copy_(self._source), repeats)
        return 2 * self._source.nbytes / _median(seconds)

    def matrix_rate(self, repeats: int = 5) -> float:
        """Operations a second of a product of two square matrices of random numbers."""
        seconds = self._watch.seconds(lambda: torch.mm(self._a, self._b, out=self._c), repeats)
        return 2 * len(self._a) ** 3 / _median(seconds)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)
