"""Decode steps that are recorded once a size and given to the device whole: CUDA graphs.

A step of few tokens is done sooner than its hundreds of kernels are launched. A graph launches them all at once, but
the same each time: so steps are rounded up to sizes, inputs lie where they lay, and what is not there does nothing.

Shapes: S rows of a step, one token each; B rows of a graph; E hidden.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from infergc.kernels.api import BatchLayout
from infergc.kernels.freight import Freight
from infergc.kernels.triton.backend import TritonAttention
from infergc.kernels.triton.step import StepBuffers, TritonStep
from infergc.sched.plan import StepPlan
from infergc.units import ceil_div
from infergc.worker.devices.device import Device, Recorder
from infergc.worker.layers import Compute, Layers

_LOG = logging.getLogger(__name__)
_MOST_GRAPHS = 128  # each takes memory for its inputs and outputs and on the driver's side
_FEWEST = 256  # positions a row that a graph is made for
_STRIDE = 2  # and so many times more is the next; programs for positions that are not there end at once
_MOST = 1 << 21  # positions that a graph is made for, all rows together: memory for partial results is kept for them


@dataclass(frozen=True, slots=True)
class Size:
    """What a graph takes.

    Attributes:
        rows: at most so many.
        positions: that they hold in all, at most.
    """

    rows: int
    positions: int

    @classmethod
    def of(cls, rows: int, positions: int) -> "Size":
        """The least that such a step fits in: a quarter of its rows stays empty at most."""
        step = 1 << max(0, rows.bit_length() - 3)
        rounded = ceil_div(rows, step) * step
        most = rounded * _FEWEST
        while most < positions:
            most *= _STRIDE
        return cls(rounded, min(most, max(_MOST, rounded * _FEWEST)))


class DecodeGraphs:
    """Implements ``layers.Forward``. Used by one thread.

    The first step of a size is computed launch by launch, which makes ready whatever has to be made once; the second
    is recorded. Graphs are let go of all together, with this: what one of them uses of the stream's, they all use. So
    steps of sizes beyond _MOST_GRAPHS go layer by layer, as do those with prompts, and those of too many positions.

    Args:
        layers: the model.
        attention: its backend.
        device: records.
        max_num_seqs: rows of a step at most.
    """

    def __init__(self, layers: Layers, attention: TritonAttention, device: Device, max_num_seqs: int) -> None:
        self._layers = layers
        self._attention = attention
        self._device = device
        self._recorder = device.recorder()
        self._graphs: dict[Size, _Graph] = {}
        largest = Size.of(max_num_seqs, _MOST)
        self._partials = attention.partials(attention.decode_size(largest.rows, largest.positions).partials)

    def __call__(self, plan: StepPlan, freight: Freight) -> Compute:
        """See ``layers.Forward``."""
        rows, positions = len(plan.counts), int(plan.starts.sum()) + len(plan.counts)
        size = Size.of(rows, positions)
        full = size not in self._graphs and len(self._graphs) == _MOST_GRAPHS
        if plan.counts.max() > 1 or positions > _MOST or full:
            return self._layers(plan, freight)
        graph = self._graph(size)
        layouts = (BatchLayout(plan.starts, plan.counts, table) for table in plan.tables)
        steps = [
            self._attention.plan(layout, freight, into=buffers)
            for layout, buffers in zip(layouts, graph.buffers, strict=True)
        ]
        return partial(graph.compute, steps)

    def _graph(self, size: Size) -> "_Graph":
        if size not in self._graphs:
            needs = self._attention.decode_size(size.rows, size.positions)
            buffers = [self._attention.reserve(needs, self._partials) for _ in self._layers.groups.specs]
            place = self._device.place
            self._graphs[size] = _Graph(self._layers, self._attention, self._recorder, place, size.rows, buffers)
        return self._graphs[size]


class _Graph:
    """Decode steps of one size.

    Attributes:
        buffers: where attention finds a step, one for each layer group.
    """

    def __init__(
        self,
        layers: Layers,
        attention: TritonAttention,
        recorder: Recorder,
        place: torch.device,
        rows: int,
        buffers: list[StepBuffers],
    ) -> None:
        self.buffers = buffers
        self._layers = layers
        self._attention = attention
        self._recorder = recorder
        self._ids_B = torch.zeros(rows, dtype=torch.int64, device=place)
        self._positions_B = torch.zeros(rows, dtype=torch.int64, device=place)
        self._hidden_BE: torch.Tensor | None = None
        self._replay: Callable[[], None] | None = None

    def compute(
        self, steps: Sequence[TritonStep], token_ids_S: torch.Tensor, positions_S: torch.Tensor
    ) -> torch.Tensor:
        """See ``layers.Compute``. The result stays until the next step of this size is computed."""
        self._check(steps)
        self._ids_B[: len(token_ids_S)] = token_ids_S
        self._positions_B[: len(positions_S)] = positions_S
        for step in steps:
            step.arrive()
        if self._hidden_BE is None:
            self._compute(steps)
        else:
            self._replay = self._replay or self._record(partial(self._compute, steps))
            self._replay()
        assert self._hidden_BE is not None, "computed above"
        return self._hidden_BE[: len(token_ids_S)]

    def _record(self, work: Callable[[], None]) -> Callable[[], None]:
        try:
            return self._recorder.record(work)
        except Exception:  # noqa: BLE001 - whatever it is, the step can be computed without
            _LOG.exception("a decode step cannot be recorded; its kernels are launched one by one (--enforce-eager)")
            return work

    def _compute(self, steps: Sequence[TritonStep]) -> None:
        self._hidden_BE = self._layers.run(steps, self._ids_B, self._positions_B)

    def _check(self, steps: Sequence[TritonStep]) -> None:
        """What attention refuses, for the first layer of each group: a replay would not."""
        groups, windows = self._layers.groups, self._layers.decoder.spec.windows
        for group, step in enumerate(steps):
            layer = groups.of_layer.index(group)
            self._attention.check(step, *self._layers.storage.layer(layer), windows[layer])
