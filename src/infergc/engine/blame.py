"""Blame: engines failed one after the other, and it is found out for whose sake."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from infergc.sched.trials import ALONE, MOST


@dataclass(slots=True)
class _Record:
    failures: int = 0
    alone: int = 0


class Blame:
    """What is held against requests, by id, and against questions, by number, until they get on.

    Whoever may have been at fault is run apart (``sched.trials``), so in the end one fails alone. To fail alone twice,
    or ``MOST`` times in all, without having been told anything in between, is proof.
    """

    def __init__(self) -> None:
        self._records: dict[str | int, _Record] = {}

    def __bool__(self) -> bool:
        return bool(self._records)

    def add(self, suspects: Collection[str | int]) -> list[str | int]:
        """An engine failed, maybe for one of these; returns those that must be it."""
        for suspect in suspects:
            record = self._records.setdefault(suspect, _Record())
            record.failures += 1
            record.alone += len(suspects) == 1
        proven = [each for each in suspects if self._proves(self._records[each])]
        self.forget(proven)
        return proven

    def forget(self, names: Iterable[str | int]) -> None:
        """These got on, or ended."""
        for name in names:
            self._records.pop(name, None)

    @staticmethod
    def _proves(record: _Record) -> bool:
        return record.alone >= ALONE or record.failures >= MOST
