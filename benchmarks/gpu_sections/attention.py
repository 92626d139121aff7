"""Decode and prefill attention as a share of what the device copies and multiplies, measured in the same rounds.

Bytes of decode are K and V of all rows, read once for all query heads that share them. Operations of a prefill are
4 · H · D for each pair of a query and a key it sees: half of all pairs.

Shapes: T tokens, H query heads, G KV heads, D head dim.
"""

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

from cpu.kernel_cases import ROUNDED_WEIGHTS
from gpu_sections.backends import Candidate, candidate
from gpu_sections.checks import difference
from gpu_sections.paged import Paged
from gpu_sections.timing import Ceilings, Stopwatch
from infergc.bench.gpu.figure import NO_TIME, Figure, left_out, not_run, of_rounds
from infergc.bench.gpu.section import Setting
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.reference import ReferenceAttention
from infergc.worker.graphs import Size

DECODE_BAR, PREFILL_BARS = 80.0, {"triton": 40.0, "flashinfer": 60.0}  # per cent
ROUNDS, REPEATS = 5, 10


@dataclass(frozen=True)
class Load:
    """Rows of so many tokens, the last ``count`` of which are computed."""

    rows: int
    context: int
    count: int
    judged: bool = False  # whether there is a bar for it
    reserved: bool = False  # planned into buffers of a CUDA graph's size, as the engine's decode steps are

    def __str__(self) -> str:
        words = "decode" if self.count == 1 else "prefill"
        return f"{words}, {self.rows} of {self.context:,}{', reserved' * self.reserved}"

    def bytes_of(self, needs: AttentionNeeds) -> int:
        """K and V of all rows."""
        return 2 * self.rows * self.context * needs.num_kv_heads * needs.head_dim * needs.dtype.itemsize

    def operations_of(self, needs: AttentionNeeds) -> int:
        """Of all pairs that see each other, where every token of the rows is computed."""
        pairs = self.rows * self.context * (self.context + 1) // 2
        return 4 * needs.num_heads * needs.head_dim * pairs


FULL = (
    Load(64, 4096, 1, judged=True), Load(1, 8192, 8192, judged=True), Load(256, 4096, 1), Load(8, 4096, 1),
    Load(1, 4096, 1), Load(64, 1024, 1), Load(1, 2048, 2048),
)  # fmt: skip
RESERVED = (Load(64, 4096, 1, reserved=True), Load(64, 4112, 1, reserved=True))  # which fill theirs, and half of theirs
QUICK = (Load(2, 40, 1, judged=True), Load(1, 48, 48, judged=True))
QUICK_RESERVED = (Load(2, 40, 1, reserved=True),)
_LEAST = 10.0  # seconds; with less nothing further is begun


class Attempt:
    """A backend under a load, planned once.

    Args:
        name: of the backend.
        backend: made for the needs.
        needs: of the model.
        load: of the rows.
        pages: storage.
    """

    def __init__(self, name: str, backend: Any, needs: AttentionNeeds, load: Load, pages: Paged) -> None:
        self.name, self.load = name, load
        self._needs, self._pages, self._backend = needs, pages, backend
        self._layout = pages.layout(load.rows, load.context, load.count)
        tokens, self._how = load.rows * load.count, dict[str, Any]()
        self._size = Size.of(load.rows, load.rows * load.context) if load.reserved else None
        if self._size is not None:
            tokens = self._size.rows
            self._how["into"] = backend.reserve(backend.decode_size(self._size.rows, self._size.positions))
        self._q_THD = 2 * torch.randn(tokens, needs.num_heads, needs.head_dim, dtype=needs.dtype, device=needs.device)
        self._step = backend.plan(self._layout, **self._how)
        self.rounds: list[float] = []  # per cent

    def attend(self) -> torch.Tensor:
        """One layer's attention."""
        scale = self._needs.head_dim**-0.5
        return self._backend.attend(self._step, self._q_THD, self._pages.k_NGPD, self._pages.v_NGPD, scale, None)

    def planning(self) -> float:
        """Milliseconds on the host, once a step and layer group."""
        began = perf_counter()
        self._backend.plan(self._layout, **self._how)
        return 1e3 * (perf_counter() - began)

    def differs(self) -> str:
        """What the reference makes of some of it, beside what came out: first rows, last tokens."""
        load = self.load
        rows, count = min(load.rows, 4), min(load.count, 32)
        reference = ReferenceAttention(self._needs)
        step = reference.plan(self._pages.first_rows(self._layout, rows, count))
        picked_R = torch.arange(rows * load.count).view(rows, load.count)[:, -count:].flatten()
        scale = self._needs.head_dim**-0.5
        expected = reference.attend(step, self._q_THD[picked_R], self._pages.k_NGPD, self._pages.v_NGPD, scale, None)
        return difference(self.attend()[picked_R], expected, ROUNDED_WEIGHTS[self._needs.dtype])

    def share(self, seconds: float, bandwidth: float, rate: float) -> float:
        """Per cent of the ceiling that limits this load."""
        if self.load.count == 1:
            return 100 * self.load.bytes_of(self._needs) / seconds / bandwidth
        return 100 * self.load.operations_of(self._needs) / seconds / rate

    def figure(self) -> Figure:
        """The share, and the bar if there is one for this load."""
        decode = self.load.count == 1
        bar = (DECODE_BAR if decode else PREFILL_BARS[self.name]) if self.load.judged else None
        of_what = "of copy bandwidth" if decode else "of the matrix rate"
        if self._size is not None:
            of_what += f"; launched for {self._size.rows} rows, {self._size.positions:,} positions"
        return of_rounds(f"{self.load}, {self.name}", self.rounds, "%", bar=bar, note=of_what)


def needs_of(setting: Setting) -> AttentionNeeds:
    """What is measured asks for: the heads of Llama-3.1-8B."""
    dtype = torch.float16 if setting.device == "cpu" else torch.bfloat16
    heads = (4, 2, 32) if setting.quick else (32, 8, 128)
    return AttentionNeeds(setting.device, dtype, *heads, 16)


def measure(setting: Setting) -> Iterator[Figure]:
    """Triton's, loads as they are and then as CUDA graphs have them."""
    found = candidate("triton")
    if found.absent:
        yield left_out(found.name, found.absent)
        return
    loads = QUICK + QUICK_RESERVED if setting.quick else FULL + RESERVED
    yield from of_backend(found, loads, setting)


def of_backend(found: Candidate, loads: Sequence[Load], setting: Setting) -> Iterator[Figure]:
    """Each load beside the reference, and then its share of what the device does at most."""
    needs = needs_of(setting)
    pages = Paged(needs, max(load.rows * (load.context + 256) for load in loads))
    size, width = (1 << 20, 64) if setting.quick else (2 << 30, 8192)
    attempts: list[Attempt] = []
    yield from prepared(found.name, found.make(needs), loads, pages, attempts, setting)
    yield from measured(attempts, Ceilings(setting.device, needs.dtype, size, width), setting)


def prepared(
    name: str, backend: Any, loads: Sequence[Load], pages: Paged, into: list[Attempt], setting: Setting
) -> Iterator[Figure]:
    """A backend's attempts, each beside the reference first; told is what differs, and what did not run."""
    for load in loads:
        what = f"{load}, {name}"
        if setting.left < _LEAST:
            yield left_out(what, NO_TIME)
            continue
        try:
            attempt = Attempt(name, backend, needs_of(setting), load, pages)
            found = attempt.differs()
        except Exception as error:  # noqa: BLE001 - whatever it is, other loads are still to be measured
            traceback.print_exc()
            yield not_run(what, error)
            continue
        if found:
            yield Figure(what, wrong=found)
        into.append(attempt)


def measured(attempts: Sequence[Attempt], ceilings: Ceilings, setting: Setting) -> Iterator[Figure]:
    """Round after round, each with a copy and a product before the loads."""
    if not attempts:
        return
    watch, name = Stopwatch(setting.device), attempts[0].name
    copies, products = list[float](), list[float]()
    for _ in range(2 if setting.quick else ROUNDS):
        copies.append(ceilings.bandwidth())
        products.append(ceilings.matrix_rate())
        for attempt in attempts:
            seconds = median(watch.seconds(attempt.attend, 2 if setting.quick else REPEATS))
            attempt.rounds.append(attempt.share(seconds, copies[-1], products[-1]))
        if setting.left < _LEAST:
            break
    yield of_rounds(f"copy, beside {name}", [each / 1e9 for each in copies], "GB/s", note="read + written")
    yield of_rounds(f"matrix rate, beside {name}", [each / 1e12 for each in products], "TFLOP/s")
    yield from (attempt.figure() for attempt in attempts)
    first = attempts[0]
    yield of_rounds(f"planning, {first.load}, {name}", [first.planning() for _ in range(5)], "ms", note="on the host")
