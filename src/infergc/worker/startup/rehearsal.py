"""The largest steps that a configuration allows, run once at start: what they take in memory is the most any takes.

Shapes: S rows of a step, T tokens of all rows, E extents of the longest table.
"""

from dataclasses import dataclass, replace

import numpy as np

from infergc.heap.groups import GroupSpec, pages_for, split_budget
from infergc.heap.moves import Move
from infergc.params import MAX_LOGPROBS, SamplingParams
from infergc.sched.plan import I32, MAX_REPORTED, Binding, PageTable, StepPlan
from infergc.units import ceil_div
from infergc.worker.executor import TorchExecutor

_NO_TOKENS = np.zeros(0, np.int32)
# Everything that makes sampling keep or compute more: a nucleus, counts for penalties, reports of prompts; those of
# sampled tokens come with the binding.
_DEAREST = SamplingParams(
    max_tokens=None, top_p=0.9, min_p=0.01, repetition_penalty=1.1, frequency_penalty=0.1, seed=0,
    prompt_logprobs=MAX_LOGPROBS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The bounds of a step.

    Attributes:
        tokens: T at most.
        slots: S at most, and how many sequences have state.
        longest: most tokens a sequence has.
        page_tokens: tokens in a page.
        lone_rows: the most long rows that attention cuts between threads when they are alone in a step: it keeps
            partial results of those.
    """

    tokens: int
    slots: int
    longest: int
    page_tokens: int
    lone_rows: int

    def run(self, executor: TorchExecutor) -> None:
        """Give every slot the dearest parameters, decode few but the longest texts, then fill steps with prompts.

        Of those there are two: in as many rows as there are, and in as few. Where steps are recorded, decode steps run
        twice, as it is then that they are, and one of as many rows as there are beside: the others may hold too many
        positions for that.
        The storage is scratch: it is released, and ``allocate`` is to be called again.
        """
        groups = executor.facts.groups
        scratch = split_budget(groups, self.kv_bytes(groups))
        executor.allocate(scratch, self.slots)
        most = (self._rows(), self.tokens), (self._few(), self.tokens)
        prefills = [self._prefill(scratch, *each) for each in most]
        # A page of each group is copied to itself: what does that on a GPU is compiled now, and not when a text waits.
        copies = [Move("copy", group, 0, 0, 1) for group in range(len(groups)) if executor.device.place.type != "cpu"]
        decode = [self._decode(scratch)]
        if executor.device.records:
            widest = self._prefill(scratch, self._rows(), self._rows())
            decode = [*decode, *decode, widest, widest]
        for plan in (*decode, *prefills):
            executor.launch(replace(plan, moves=tuple(copies))).result()
        executor.release()

    def kv_bytes(self, groups: tuple[GroupSpec, ...]) -> int:
        """Memory of the scratch storage."""
        return self._pages() * sum(group.page_bytes for group in groups)

    def _pages(self) -> int:
        return max(self._lone(), self._rows() + pages_for(self.tokens, self.page_tokens))

    def _rows(self) -> int:
        return min(self.slots, self.tokens)

    def _lone(self) -> int:
        return min(self._rows(), self.lone_rows)

    def _few(self) -> int:
        """Rows that it takes to have all the tokens of a step."""
        return min(self._rows(), ceil_div(self.tokens, self.longest))

    def _prefill(self, groups: tuple[GroupSpec, ...], rows: int, tokens: int) -> StepPlan:
        """So many tokens in so many rows, as far as texts may be so long, each sampled, each with pages of its own."""
        tokens = min(tokens, rows * self.longest)
        ends = np.linspace(0, tokens, rows + 1).astype(np.int32)
        counts: I32 = ends[1:] - ends[:-1]
        pages: I32 = -(-counts // self.page_tokens)
        table = PageTable((pages.cumsum(dtype=np.int32) - pages)[:, None], pages[:, None], np.zeros(rows, np.int32))
        return self._plan(np.zeros(rows, np.int32), counts, tuple(table for _ in groups))

    def _decode(self, groups: tuple[GroupSpec, ...]) -> StepPlan:
        """One token each for few texts as long as they get; parameters are bound for all slots."""
        rows = self._lone()
        start = self.longest - 1
        tables = tuple(self._long_table(group, start, rows) for group in groups)
        return self._plan(np.full(rows, start, np.int32), np.ones(rows, np.int32), tables, self._bindings())

    def _long_table(self, group: GroupSpec, start: int, rows: int) -> PageTable:
        """Texts made of the same few pages over and over, but for the last page, which is written."""
        skipped = max(0, start - group.window + 1) // self.page_tokens if group.window else 0
        repeated = pages_for(start + 1, self.page_tokens) - skipped - 1
        pieces = [*[group.capacity] * (repeated // group.capacity), repeated % group.capacity, 1]
        first = np.zeros((rows, len(pieces)), np.int32)
        first[:, -1] = np.arange(rows)
        pages = np.tile(np.array(pieces, np.int32), (rows, 1))
        return PageTable(first, pages, np.full(rows, skipped, np.int32))

    def _bindings(self) -> tuple[Binding, ...]:
        prompt = np.zeros(self.tokens + 1, np.int32)  # each step's last sampled token and all before it are told of
        return tuple(Binding(slot, _DEAREST, prompt, _NO_TOKENS, MAX_REPORTED) for slot in range(self.slots))

    @staticmethod
    def _plan(starts: I32, counts: I32, tables: tuple[PageTable, ...], bindings: tuple[Binding, ...] = ()) -> StepPlan:
        rows = len(starts)
        return StepPlan(
            step=0,
            slots=np.arange(rows, dtype=np.int32),
            starts=starts,
            counts=counts,
            token_ids=np.zeros(counts.sum(), np.int32),
            sample=np.ones(rows, np.bool_),
            tables=tables,
            bindings=bindings,
        )
