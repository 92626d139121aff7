"""An executor whose KV is numbers of token prefixes: every step sees that what its rows show is their own.

Steps are carried out late, in the order in which a worker and its copier do it: what goes between device and host may
overtake the computing of the step before, never its moves. A disk does its jobs late and fails at some.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infergc.engine.loop import Engine
from infergc.engine.messages import DiskNews, Fetched, Lost, Saved
from infergc.engine.ports import ModelFacts
from infergc.heap import keys
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.jobs import Job
from infergc.heap.moves import TRANSFERS, Move
from infergc.heap.names import PageName
from infergc.sched.plan import Binding, StepOutcome, StepPlan
from infergc.sim.executor import SimExecutor
from laws.shadow import Prefixes, Shadow

Page = tuple[PageName, Any]


@dataclass
class Text:
    """What is known of a slot's sequence: its tokens, which prefixes they end, and the keys of its pages."""

    tokens: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)

    def cut(self, size: int, page_tokens: int) -> None:
        del self.tokens[size:], self.cells[size:], self.keys[size // page_tokens :]


@dataclass
class Launched:
    """A step, what its rows are to show, and how far it is."""

    plan: StepPlan
    outcome: StepOutcome
    cells: list[Any]
    owners: list[int]
    fails: bool
    copied: bool = False
    moved: bool = False


class ShadowFlight:
    """A step that is carried out when its outcome is asked for, if it was not before."""

    def __init__(self, executor: "ShadowExecutor", step: Launched) -> None:
        self._executor = executor
        self._step = step

    def result(self) -> StepOutcome:
        self._executor.finish(self._step)
        if self._step.fails:
            raise RuntimeError("lost")
        return self._step.outcome


class ShadowExecutor(SimExecutor):
    """``SimExecutor`` with storage of prefix numbers. ``watch`` comes before the first step.

    Attributes:
        in_order: whether moves are made in the plan's order, as under ``--heap-debug``.
        faults: how often a page cannot be written or read, or a page on disk is lost, 0 to 1.
        unsound: whether steps fail now and then.
    """

    in_order = False
    faults = 0.1
    unsound = False

    def __init__(self, facts: ModelFacts, record: Any = ()) -> None:
        super().__init__(facts, record)
        self._rng = np.random.default_rng(5)
        self._prefixes = Prefixes()
        self._queue: deque[Launched] = deque()
        self._texts: list[Text] = []
        self._spoilt: set[int] = set()
        self._pages: dict[bytes, Page] = {}
        self._jobs: list[Job] = []
        self._told: list[DiskNews] = []
        self.cells: dict[bytes, Any] = {}

    def watch(self, heap: Heap) -> None:
        """Whose plans these will be."""
        self._heap = heap
        self.shadow = Shadow(heap)

    def allocate(self, groups: tuple[GroupSpec, ...], max_num_seqs: int, host_slots: int = 0) -> None:
        super().allocate(groups, max_num_seqs, host_slots)
        self._texts = [Text() for _ in range(max_num_seqs)]

    # ---- steps

    def launch(self, plan: StepPlan) -> ShadowFlight:  # type: ignore[override]
        self._progress()
        self._untouched(plan.moves)
        for binding in plan.bindings:
            self._bind(binding)
        outcome = super().launch(plan).result()
        cells, at = [], 0
        for row, (slot, start, count) in enumerate(zip(plan.slots, plan.starts, plan.counts, strict=True)):
            tokens = plan.token_ids[at : at + count].tolist()
            at += int(count)
            cells.append(self._follow(int(slot), int(start), tokens))
            if plan.sample[row]:
                self._texts[slot].tokens.append(int(outcome.tokens[row]))
        owners = self._heap.holder[plan.slots].tolist()
        step = Launched(plan, outcome, cells, owners, fails=self.unsound and plan.step % 29 == 11)
        self._queue.append(step)
        return ShadowFlight(self, step)

    def finish(self, step: Launched) -> None:
        """Carry out every step up to this one."""
        while self._queue and self._queue[0].plan.step <= step.plan.step:
            self._compute()

    def _bind(self, binding: Binding) -> None:
        tokens = [*binding.prompt.tolist(), *binding.output.tolist()]
        self._texts[binding.slot] = Text()
        if self._heap.holder[binding.slot] < 0:
            return  # a branch that has ended since it was forked
        self._extend(binding.slot, tokens)

    def _follow(self, slot: int, start: int, tokens: list[int]) -> Any:
        """A row computes these tokens from ``start`` on; returns what its pages hold then."""
        text = self._texts[slot]
        assert len(text.tokens) >= start, "a row goes on from tokens that nobody told of"
        sampled = text.tokens[start : start + 1]
        tokens = [*(sampled if tokens[0] < 0 else tokens[:1]), *tokens[1:]]
        text.cut(start, self._heap.page_tokens)
        assert len(text.tokens) == len(text.cells) == start
        self._extend(slot, tokens)
        return np.array(text.cells[: start + len(tokens)], np.int64)

    def _extend(self, slot: int, tokens: list[int]) -> None:
        text, size = self._texts[slot], self._heap.page_tokens
        namespace = self._heap.sequences[int(self._heap.holder[slot])].namespace
        for token in tokens:
            parent = self._prefixes.before(text.cells, namespace, size)
            text.tokens.append(token)
            text.cells.append(self._prefixes.next(parent, token, None))
        for page in range(len(text.keys), len(text.cells) // size):
            low, high = page * size, (page + 1) * size
            before = keys.behind(text.keys[-1], namespace.door(page)) if page else keys.root_key(namespace)
            text.keys.append(keys.next_key(before, np.array(text.tokens[low:high], np.int32).tobytes()))
            self.cells[text.keys[-1]] = np.array(text.cells[low:high], np.int64)

    def _progress(self) -> None:
        """Worker and copier get as far as chance has it."""
        for _ in range(int(self._rng.integers(4))):
            waiting = next((step for step in self._queue if not step.copied), None)
            before = [step for step in self._queue if waiting is not None and step.plan.step < waiting.plan.step]
            if waiting is not None and not self.in_order and all(step.moved for step in before):
                self._copy(waiting)
            elif self._queue:
                self._move(self._queue[0])

    def _copy(self, step: Launched) -> None:
        if not step.copied and not self.in_order:
            self._make(move for move in step.plan.moves if move.kind in TRANSFERS)
        step.copied = True

    def _move(self, step: Launched) -> None:
        self._copy(step)
        if not step.moved:
            self._make(move for move in step.plan.moves if self.in_order or move.kind not in TRANSFERS)
        step.moved = True

    def _make(self, moves: Any) -> None:
        for move in moves:
            if move.kind in TRANSFERS or move.kind == "copy":
                self.shadow.move(move)

    def _compute(self) -> None:
        """The first step that was launched is computed: it writes, and reads all that its rows show."""
        step = self._queue[0]
        self._move(step)
        self._queue.popleft()
        if step.fails:
            self._spoilt.update(step.owners)  # the step after this one is on its way, and computes for nobody
        sound = [row for row, owner in enumerate(step.owners) if owner not in self._spoilt]
        for row in sound:
            start = int(step.plan.starts[row])
            self.shadow.write(step.plan.tables, row, start, step.cells[row][start:])
        for row in sound:
            self.shadow.verify(step.plan.tables, row, step.cells[row], "law 7")

    @staticmethod
    def _untouched(moves: tuple[Move, ...]) -> None:
        """No page to which a copy of a plan writes goes between device and host in the same plan after it."""
        written: set[tuple[int, int]] = set()
        for move in moves:
            first = move.src if move.kind == "store" else move.dst
            if move.kind in TRANSFERS:
                run = {(move.group, page) for page in range(first, first + move.pages)}
                assert not run & written, "a page was given back to which a copy waits to be made"
            elif move.kind == "copy":
                written.add((move.group, move.dst))

    # ---- the disk

    def move(self, job: Job) -> None:
        assert job.after <= self._heap.completed, "a job was handed over before its step had landed"
        self._jobs.append(job)

    def news(self) -> list[DiskNews]:
        while self._jobs and self._rng.random() < 0.4:
            self._do(self._jobs.pop(int(self._rng.integers(len(self._jobs)))))
        if self._pages and self._rng.random() < self.faults / 10:
            gone = list(self._pages)[int(self._rng.integers(len(self._pages)))]
            del self._pages[gone]
            self._told.append(Lost([gone]))
        if self._rng.random() < 0.3:
            return []
        told, self._told = self._told, []
        return told

    def _do(self, job: Job) -> None:
        well = self._rng.random(len(job.pages)) >= self.faults
        names = [name for name, _ in job.pages]
        if job.number < 0:
            for (name, slot), fine in zip(job.pages, well, strict=True):
                assert self.shadow.holds(slot, self.cells[name.key]), f"slot {slot} does not hold what is to be written"
                if fine:
                    self._pages[name.key] = name, self.shadow.lift(slot)
            parted = [
                [name.key for name, fine in zip(names, well, strict=True) if fine == kind] for kind in (True, False)
            ]
            self._told.append(Saved(*parted))
            return
        found = [
            bool(fine) and self._pages.get(name.key, (None,))[0] == name for name, fine in zip(names, well, strict=True)
        ]
        for (name, slot), there in zip(job.pages, found, strict=True):
            if there:
                self.shadow.lay(slot, self._pages[name.key][1])
        self._told.append(Fetched(job.number, found, sum(found) * 1000, 1e-6))

    # ---- at rest

    def verify(self) -> None:
        """Whatever the tree and the host have is what it should be. Nothing waits to be done."""
        assert not self._queue
        assert self._heap.tiers is not None
        host, size = self._heap.tiers.host, self._heap.page_tokens
        for key, slot in (*host.cached.items(), *host.held.items()):
            assert self.shadow.holds(slot, self.cells[key]), f"slot {slot} of the host tier"
        known = {root.id: root.digests for root in self._heap.tree.roots.values()}
        for node in self._heap.tree.nodes():
            assert node.parent is not None
            before = keys.behind(known[node.parent.id][-1], node.door)
            chain = known[node.id] = keys.keys_of(before, node.tokens.view(), size)
            for group, column in enumerate(node.pages):
                for key, page in zip(chain, column.view().tolist(), strict=True):
                    assert np.array_equal(self.shadow.rows[group][page], self.cells[key]), f"page {page} of {group}"


def shadowed(engine: Engine) -> ShadowExecutor:
    """The engine's executor, told of its heap."""
    executor = engine._executor
    assert isinstance(executor, ShadowExecutor)
    executor.watch(engine.heap)
    return executor
