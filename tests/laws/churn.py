"""Continuous batching churn on a heap: what the lengths of real traffic do to its block tables."""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from infergc.heap.objects import Sequence, TokenLog
from infergc.heap.stats import HeapConfig
from infergc.policies.retention.lru import Lru

PAGE = 16
LONG = 8192  # tokens from which a table must be short
CHUNK = 512  # prompt tokens of a sequence in a step
_LOOK_AHEAD = 16  # waiting requests among which one that fits is admitted, so that memory is really full
NAMESPACE = Namespace("m")
_NONE = np.empty(0, np.int32)


@dataclass
class Figures:
    """What was seen of live sequences, each looked at again and again."""

    extent_ratios: list[float] = field(default_factory=list)  # extents / pages, sequences of ≥ LONG tokens
    fills: list[float] = field(default_factory=list)  # tokens stored / token slots held, over 512 tokens
    occupancy: list[float] = field(default_factory=list)  # live pages / capacity
    finished: int = 0
    preempted: int = 0

    @property
    def occupancy_mean(self) -> float:
        return float(np.mean(self.occupancy))

    def __str__(self) -> str:
        ratios = self.extent_ratios or [0.0]
        return (
            f"{self.finished} finished, {self.preempted} preempted, occupancy {self.occupancy_mean:.1%}; extents/"
            f"pages mean {np.mean(ratios):.4f} p99 {np.quantile(ratios, 0.99):.4f} worst {max(ratios):.4f} "
            f"({len(self.extent_ratios)} tables); fill mean {np.mean(self.fills):.4f} worst {min(self.fills):.4f}"
        )


@dataclass(frozen=True, eq=False)
class Request:
    """Token ids of the prompt, and how many are generated."""

    prompt: NDArray[np.int32]
    output: int


@dataclass(eq=False)
class Running:
    """A sequence in the batch."""

    sequence: Sequence
    request: Request
    length: int = 0

    @property
    def prompt(self) -> int:
        return len(self.request.prompt)

    @property
    def total(self) -> int:
        return self.prompt + self.request.output

    def want(self) -> int:
        """Length after the next step."""
        return min(self.length + CHUNK, self.prompt) if self.length < self.prompt else self.length + 1


class Churn:
    """Admits while memory lasts, prefills ``prefills`` prompts at a time in chunks, decodes the others."""

    def __init__(self, tokens: int, *, caching: bool, prefills: int = 4, slots: int = 256) -> None:
        config = HeapConfig((GroupSpec("all", 1, None, tokens // PAGE),), PAGE, slots, caching)
        self.heap = Heap(config, Lru())
        self.prefills = prefills
        self.batch: list[Running] = []
        self.figures = Figures()
        self._generated = -1  # ids that no prompt holds, each used once

    def run(self, requests: list[Request]) -> Figures:
        """Serve the requests; figures are taken once memory was full, and while requests wait."""
        waiting = deque(requests)
        capacity = self.heap.groups[0].spec.capacity
        full = False
        step = 0
        while waiting or self.batch:
            full |= not self._admit(waiting)
            self._step(waiting)
            step += 1
            if full and waiting and step % 16 == 0:
                self._look(capacity)
        self.heap.check()
        return self.figures

    def _admit(self, waiting: deque[Request]) -> bool:
        """Let prompts in; False if memory, not the number of prefills, stopped it."""
        while waiting and sum(run.length < run.prompt for run in self.batch) < self.prefills:
            request = next((each for each in islice(waiting, _LOOK_AHEAD) if self._room_for(each)), None)
            if request is None:
                return False
            sequence = self.heap.open("churn", TokenLog(request.prompt), NAMESPACE)
            if sequence is None:
                return False
            hit = self.heap.share_prefix(sequence, len(request.prompt) - 1)
            waiting.remove(request)
            self.batch.append(Running(sequence, request, hit))
        return True

    def _room_for(self, request: Request) -> bool:
        to_come = sum(max(0, run.prompt - run.length) for run in self.batch)
        need = (len(request.prompt) + to_come) // PAGE + 2 * len(self.batch) + 2
        return need <= self.heap.groups[0].grantable

    def _step(self, waiting: deque[Request]) -> None:
        while not self._grow():
            victim = self.batch.pop()
            waiting.appendleft(victim.request)
            self.heap.close(victim.sequence)
            self.figures.preempted += 1
        self.heap.begin_step(_NONE, _NONE, _NONE)
        self.heap.take_moves()
        self.heap.complete(self.heap.planning - 1)
        for run in list(self.batch):
            before, run.length = run.length, run.want()
            if run.length > run.prompt:
                run.sequence.tokens.append(self._generated)
                self._generated -= 1
            if run.length // PAGE > before // PAGE:
                self.heap.publish(run.sequence, run.length)
            if run.length == run.total:
                self._finish(run)

    def _grow(self) -> bool:
        slots = np.array([run.sequence.slot for run in self.batch], np.int32)
        lengths = np.array([run.want() for run in self.batch], np.int32)
        crossing = self.heap.crossing(slots, lengths)
        rows = np.flatnonzero(crossing).tolist()
        if rows and not self.heap.reserve([(self.batch[row].sequence, int(lengths[row])) for row in rows]):
            return False
        self.heap.advance(slots[~crossing], lengths[~crossing])
        return True

    def _finish(self, run: Running) -> None:
        self.heap.close(run.sequence)
        self.batch.remove(run)
        self.figures.finished += 1

    def _look(self, capacity: int) -> None:
        table = self.heap.tables[0]
        live = 0
        for run in self.batch:
            slot = run.sequence.slot
            held = int(table.held[slot])
            live += held
            if run.length >= LONG:
                self.figures.extent_ratios.append(int(table.extents[slot]) / held)
            if run.length > 512:
                self.figures.fills.append(run.length / (held * PAGE))
        self.figures.occupancy.append(live / capacity)
