"""KV storage that catches who writes to pages that are free, or beyond the last page (``--heap-debug``).

Shapes: N pages of a group, S rows of a plan.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.heap.errors import Finding
from infergc.heap.groups import GroupSpec
from infergc.heap.moves import TRANSFERS
from infergc.models.spec import ModelSpec
from infergc.sched.plan import Move, StepPlan
from infergc.worker.debug.guards import Breach, GuardedArena, Stain
from infergc.worker.devices.device import Device
from infergc.worker.memory.storage import KVStorage, LayerGroups, Shape

_SIDES = ("before the first page", "behind the last page")


class GuardedStorage(KVStorage):
    """``KVStorage`` with the same layout of pages, whose every page holds poison while it is free.

    It goes by the moves that it has made, not by what the heap plans meanwhile: a page is held to be free from its
    ``poison`` to its ``check``. So a plan that was lost on its way raises no false alarm. What a check finds is kept
    until ``take_findings``: the step is computed all the same, and fails after that, so that later steps find
    their KV.

    All its memory is taken when it is made. Arguments as ``KVStorage``. What is poisoned, checked, stored and loaded is
    so in the order of planning: loads are not made ahead of their step.
    """

    in_order = True

    def __init__(
        self,
        model: ModelSpec,
        groups: LayerGroups,
        specs: tuple[GroupSpec, ...],
        page_tokens: int,
        host_slots: int = 0,
        device: Device | None = None,
    ) -> None:
        self._specs = specs
        self._findings: list[Finding] = []
        super().__init__(model, groups, specs, page_tokens, host_slots, device)
        self._free: list[NDArray[np.bool_]] = [np.ones(spec.capacity, np.bool_) for spec in specs]

    def apply(self, moves: tuple[Move, ...]) -> None:
        """Carry out moves in order. Cost: one pass over the memory of the pages named."""
        for kind, alike in groupby(moves, lambda move: move.kind):
            if kind == "copy" or kind in TRANSFERS:
                super().apply(tuple(alike))
                continue
            for move in alike:
                if kind == "poison":
                    self._guards[move.group].poison(move.src, move.dst)
                else:
                    self._findings += self._written_while_free(move.group, move.src, move.dst)
                self._free[move.group][move.src : move.dst + 1] = kind == "poison"

    def take_findings(self) -> list[Finding]:
        """What checks have found since the last call."""
        found, self._findings = self._findings, []
        return found

    def breaches(self) -> list[Finding]:
        """Writes out of bounds since the last call. Cost: one pass over the bands, some pages for each tensor."""
        return [
            Finding(self._out_of_bounds(group, breach), group)
            for group, arena in enumerate(self._guards)
            for breach in arena.breaches()
        ]

    def inspect(self) -> list[Finding]:
        """Everything that is wrong now: bands, and every free page. Cost: one pass over the memory of free pages."""
        found = [*self.take_findings(), *self.breaches()]
        for group, spec in enumerate(self._specs):
            found += self._written_while_free(group, 0, spec.capacity - 1)
        return found

    def poison_in_reach(self, plan: StepPlan, row: int) -> Finding | None:
        """The first position that a row of a step sees and that holds poison, those before the step's own first."""
        start, end = int(plan.starts[row]), int(plan.starts[row] + plan.counts[row])
        for low, high in ((0, start), (start, end)):
            for group in range(len(self._specs)):
                for position, page in self._poisoned(plan, row, group, low, high):
                    where = f"page {page} of group {self._specs[group].name}"
                    return Finding(f"row {row} reads poison at position {position}: {where}", group, page, row)
        return None

    def _poisoned(self, plan: StepPlan, row: int, group: int, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Positions low … high - 1 in reach of the row that hold poison, each with its page."""
        table, size, window = plan.tables[group], self.page_tokens, self._specs[group].window
        if window is not None:
            low = max(low, int(plan.starts[row]) - window + 1)
        logical = int(table.skipped[row])
        for first, pages in zip(table.first[row].tolist(), table.pages[row].tolist(), strict=True):
            for page in range(first, first + pages):
                at, logical = logical * size, logical + 1
                seen = slice(max(low - at, 0), max(min(high - at, size), 0))
                for offset in self._guards[group].poisoned_slots(page)[seen].nonzero().flatten().tolist():
                    yield at + seen.start + offset, page

    def _memory(self, shapes: Sequence[Shape], dtype: torch.dtype) -> list[torch.Tensor]:
        self._guards = [GuardedArena(shape, dtype) for shape in shapes]
        return [guard.tensors for guard in self._guards]

    def _written_while_free(self, group: int, first: int, last: int) -> list[Finding]:
        free = self._free[group]
        stains = self._guards[group].stains(first, last) if free[first : last + 1].any() else ()
        return [Finding(self._stained(group, stain), group, stain.page) for stain in stains if free[stain.page]]

    def _stained(self, group: int, stain: Stain) -> str:
        arena = self._guards[group]
        head, token, dim = arena.place(stain.element)
        return (
            f"page {stain.page} of group {self._specs[group].name} was written while it was free: "
            f"{stain.values} values, the first in {self._tensor(group, stain.tensor)}, "
            f"head {head}, token {token}, dim {dim}, where {stain.found:#x} stands and not {arena.marks.poison:#x}"
        )

    def _out_of_bounds(self, group: int, breach: Breach) -> str:
        return (
            f"written out of bounds: {breach.values} values {_SIDES[breach.side]} "
            f"of {self._tensor(group, breach.tensor)} in group {self._specs[group].name}, "
            f"the nearest {breach.offset} values off"
        )

    def _tensor(self, group: int, index: int) -> str:
        return f"{'KV'[index % 2]} of layer {self._members[group][index // 2]}"
