"""Contestants in turns on the same prompts, round after round: tokens a second of each, and ours over theirs."""

import sys
import traceback
from collections.abc import Iterator, Sequence
from statistics import median
from time import perf_counter
from typing import Protocol

from infergc.bench.gpu.figure import Figure, not_run, of_rounds
from infergc.bench.gpu.section import Setting
from infergc.bench.workload import Load, digest

_WARM_UP = -1  # the number of the round that warms up


class Contestant(Protocol):
    """Something that generates.

    Attributes:
        name: as in the table.
    """

    name: str

    @property
    def words(self) -> str:
        """What it computes attention by; known when it has generated."""
        ...

    def generate(self, prompts: list[list[int]], count: int) -> list[list[int]]:
        """Greedy outputs of exactly ``count`` tokens each."""
        ...

    def forget(self) -> None:
        """Let go of what is there for one load alone."""
        ...


class Contest:
    """One load.

    Args:
        ours: the engine; where it fails, the section does.
        others: beside it; one that fails is left out.
        load: the requests.
        vocab: ids to draw prompts from.
        setting: of the run.
    """

    def __init__(
        self, ours: Contestant, others: Sequence[Contestant], load: Load, vocab: int, setting: Setting
    ) -> None:
        self._load, self._vocab, self._setting = load, vocab, setting
        self._ours, self._contestants = ours, [ours, *others]
        self._speeds: dict[str, list[float]] = {each.name: [] for each in self._contestants}
        self._first: dict[str, list[int]] = {}  # of the round that warms up: the first tokens of all outputs
        self._digests: dict[str, str] = {}

    def figures(self, rounds: int) -> Iterator[Figure]:
        """Warm up, run rounds while there is time, and tell."""
        yield from self._each(_WARM_UP)
        for number in range(rounds):
            began = perf_counter()
            yield from self._each(number)
            if self._setting.left < 1.5 * (perf_counter() - began):
                break
        yield from self._told()
        for each in self._contestants:
            each.forget()

    def _each(self, number: int) -> Iterator[Figure]:
        """A round of everyone, who comes first changing."""
        at = number % len(self._contestants)
        for each in self._contestants[at:] + self._contestants[:at]:
            try:
                self._round(each, number)
            except Exception as error:  # of whatever kind, it concerns this one alone
                if each is self._ours:
                    raise
                traceback.print_exc(file=sys.stderr)
                self._contestants.remove(each)
                yield not_run(f"{self._load}, {each.name}", error)

    def _round(self, contestant: Contestant, number: int) -> None:
        prompts = self._load.prompts(number, self._vocab)
        began = perf_counter()
        outputs = contestant.generate(prompts, self._load.output_len)
        seconds = perf_counter() - began  # outputs are on the host: nothing is left to be waited for
        lengths = {len(output) for output in outputs}
        if len(outputs) != self._load.requests or lengths != {self._load.output_len}:
            raise RuntimeError(f"{len(outputs)} outputs of {sorted(lengths)} tokens came of a load {self._load}")
        if number == _WARM_UP:
            self._first[contestant.name] = [output[0] for output in outputs]
            self._digests[contestant.name] = digest(outputs)
        else:
            self._speeds[contestant.name].append(self._load.generated / seconds)

    def _told(self) -> Iterator[Figure]:
        mine = self._speeds[self._ours.name]
        note = f"outputs {self._digests[self._ours.name]}"
        yield of_rounds(f"{self._load}, {self._ours.name}", mine, "tok/s", note=note)
        for each in self._contestants[1:]:
            theirs = self._speeds[each.name]
            ratios = sorted(a / b for a, b in zip(mine, theirs, strict=True))
            times = f"ours {median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            note = f"{times}; {self._alike(each.name)}; {each.words}"
            yield of_rounds(f"{self._load}, {each.name}", theirs, "tok/s", note=note)

    def _alike(self, name: str) -> str:
        """How many first tokens are those of ours: in two bytes hardly all, and of other weights none."""
        ours, theirs = self._first[self._ours.name], self._first[name]
        share = sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours)
        return f"first tokens alike: {share:.0%}"
