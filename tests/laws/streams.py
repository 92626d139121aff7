"""What the world knows of one sequence, and of the steps that compute it."""

from dataclasses import dataclass, field

import numpy as np

from infergc.heap.moves import PageTable
from infergc.heap.objects import BeamGroup, Sequence, Session
from laws.shadow import Cells

Whole = BeamGroup | Session  # what holds sequences together


@dataclass(eq=False)
class Stream:
    """A sequence, its decided tokens, and which prefix each position that was scheduled holds."""

    sequence: Sequence
    tokens: list[int]  # known ones, then those that steps in flight sample
    cells: list[int] = field(default_factory=list)  # one per scheduled position
    computed: int = 0
    slid: int = 0
    private: int | None = None  # tells inexact KV apart
    started: bool = False
    whole: Whole | None = None  # the session or beam group that it is part of
    keys: list[bytes] = field(default_factory=list)  # of its first pages in lower tiers

    @property
    def scheduled(self) -> int:
        return len(self.cells)

    @property
    def known(self) -> int:
        return self.sequence.tokens.size

    def expected(self, upto: int) -> Cells:
        return np.array(self.cells[:upto], np.int64)


@dataclass(eq=False)
class Row:
    """A stream's part of a step; ``valid`` positions and the sample survive truncation or not."""

    stream: Stream
    start: int
    count: int
    sampled: bool
    valid: int  # positions of it that still stand

    @property
    def end(self) -> int:
        return self.start + self.count

    def cut(self, tokens: int, sample_lives: bool) -> None:
        self.valid = min(self.valid, tokens)
        self.sampled &= sample_lives


@dataclass
class Step:
    """A step in flight."""

    number: int
    rows: list[Row]
    tables: tuple[PageTable, ...]
