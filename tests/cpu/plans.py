"""Hand-made step plans: every slot owns one contiguous stretch of pages in each layer group."""

from dataclasses import dataclass

import numpy as np

from infergc.heap.groups import GroupSpec, split_budget
from infergc.params import SamplingParams
from infergc.sched.plan import FROM_DEVICE, Binding, PageTable, StepPlan
from infergc.units import ceil_div
from infergc.worker.executor import TorchExecutor

GREEDY = SamplingParams(temperature=0.0, max_tokens=None)


@dataclass(frozen=True)
class Row:
    """One sequence's part of a step."""

    slot: int
    start: int
    tokens: list[int]
    sample: bool


class Planner:
    """Makes plans for slots 0 … slots - 1, each with room for ``max_len`` tokens.

    Pages before a group's window are left out of its table, as an engine that frees them would do.
    """

    def __init__(self, groups: tuple[GroupSpec, ...], page_tokens: int, slots: int, max_len: int) -> None:
        self._stride = ceil_div(max_len, page_tokens)
        self._page_tokens = page_tokens
        self._slots = slots
        bundle = sum(group.page_bytes for group in groups)
        self.groups = split_budget(groups, bundle * self._stride * slots)
        self._step = 0

    def plan(self, rows: list[Row], bindings: tuple[Binding, ...] = ()) -> StepPlan:
        self._step += 1
        tables = tuple(self._table(rows, group.window) for group in self.groups)
        return plan_of(rows, self._step, tables, bindings)

    def _table(self, rows: list[Row], window: int | None) -> PageTable:
        size = self._page_tokens
        skipped = [max(0, row.start - window + 1) // size if window else 0 for row in rows]
        held = [ceil_div(row.start + len(row.tokens), size) for row in rows]
        stretch = [(self._slots - 1 - row.slot) * self._stride for row in rows]  # not in slot order
        return PageTable(
            first=_i32([[base + skip] for base, skip in zip(stretch, skipped, strict=True)]),
            pages=_i32([[pages - skip] for pages, skip in zip(held, skipped, strict=True)]),
            skipped=_i32(skipped),
        )


def plan_of(
    rows: list[Row],
    step: int = 0,
    tables: tuple[PageTable, ...] = (),
    bindings: tuple[Binding, ...] = (),
) -> StepPlan:
    """The rows as a plan."""
    return StepPlan(
        step=step,
        slots=_i32([row.slot for row in rows]),
        starts=_i32([row.start for row in rows]),
        counts=_i32([len(row.tokens) for row in rows]),
        token_ids=_i32([token for row in rows for token in row.tokens]),
        sample=np.array([row.sample for row in rows]),
        tables=tables,
        bindings=bindings,
    )


def greedy_streams(
    executor: TorchExecutor, planner: Planner, prompts: list[list[int]], new_tokens: int, chunk: int
) -> list[list[int]]:
    """Sample ``new_tokens`` tokens for each prompt, all in one batch, every step launched before any result.

    Each step takes at most ``chunk`` tokens of each prompt; sequences past their prompt decode beside the others.
    """
    bindings = tuple(Binding(slot, GREEDY, _i32(prompt), _i32([])) for slot, prompt in enumerate(prompts))
    flights = []
    for step in range(ceil_div(max(map(len, prompts)), chunk) + new_tokens):
        rows = [row for slot, prompt in enumerate(prompts) if (row := _row(slot, prompt, step, new_tokens, chunk))]
        if rows:
            plan = planner.plan(rows, bindings if step == 0 else ())
            flights.append((plan, executor.launch(plan)))
    streams: list[list[int]] = [[] for _ in prompts]
    for plan, flight in flights:
        for slot, token in zip(plan.slots.tolist(), flight.result().tokens.tolist(), strict=True):
            streams[slot] += [token] * (token >= 0)
    return streams


def _row(slot: int, prompt: list[int], step: int, new_tokens: int, chunk: int) -> Row | None:
    chunks = ceil_div(len(prompt), chunk)
    if step < chunks:
        piece = prompt[step * chunk : (step + 1) * chunk]
        return Row(slot, step * chunk, piece, sample=step == chunks - 1)
    decoded = step - chunks
    if decoded < new_tokens - 1:
        return Row(slot, len(prompt) + decoded, [FROM_DEVICE], sample=True)
    return None


def _i32(values: list[int] | list[list[int]]) -> np.ndarray:
    return np.array(values, np.int32)
