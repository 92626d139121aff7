"""Blame: engines failed one after the other, and it is found out for whose sake."""

from collections.abc import Collection, Iterable

from infergc.sched.trials import Suspicion


class Blame:
    """What is held against requests, by id, and against questions, by number, until they get on.

    Whoever may have been at fault is run apart (``sched.trials``), so in the end one fails alone. To fail alone twice,
    or ``trials.MOST`` times in all, without having been told anything in between, is proof.
    """

    def __init__(self) -> None:
        self._records: dict[str | int, Suspicion] = {}

    def __bool__(self) -> bool:
        return bool(self._records)

    def add(self, suspects: Collection[str | int]) -> list[str | int]:
        """An engine failed, maybe for one of these; returns those that must be it."""
        for suspect in suspects:
            record = self._records.setdefault(suspect, Suspicion())
            record.failures += 1
            record.alone += len(suspects) == 1
        proven = [each for each in suspects if self._records[each].proven]
        self.forget(proven)
        return proven

    def forget(self, names: Iterable[str | int]) -> None:
        """These got on, or ended."""
        for name in names:
            self._records.pop(name, None)
