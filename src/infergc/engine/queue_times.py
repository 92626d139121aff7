"""How long requests wait before they start, and what for: measured by a clock for metrics alone, never for a plan."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from copy import copy
from time import perf_counter

from infergc.sched.request import Request
from infergc.sched.search import Hypothesis
from infergc.sched.waits import BEHIND, LOAD, ORDER, REASONS

WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0)


class QueueTimes:
    """The choices that have not started yet, and a sum of all waiting by its reason.

    Args:
        now: seconds that never go back.

    Attributes:
        taken: choices that came so far.
        seconds: waited so far by all requests together, preempted ones too, by reason.
        counts: requests that started, by how long they had waited: at most each of ``WAIT_BOUNDS``, and in the end
            longer. A request with several choices counts once where they start together.
        waited: seconds, of all in ``counts`` together.
        latest: what each of those waited that have started since somebody took this, by the name of the first choice.
    """

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._since: dict[str, float] = {}  # name of a choice → when it came
        self._last = now()
        self.taken = 0
        self.seconds = dict.fromkeys(REASONS, 0.0)
        self.counts = [0] * (len(WAIT_BOUNDS) + 1)
        self.waited = 0.0
        self.latest: dict[str, float] = {}

    def copy(self) -> "QueueTimes":
        """What is counted so far, for another engine to go on from; both see the same choices wait."""
        other = copy(self)
        other.seconds, other.counts, other.latest = self.seconds.copy(), self.counts.copy(), self.latest.copy()
        return other

    @property
    def unstarted(self) -> int:
        """Choices that came and have neither started nor ended."""
        return len(self._since)

    def came(self, names: Iterable[str]) -> None:
        """These choices wait from now on."""
        self._since.update(dict.fromkeys(names, self._now()))

    def started(self, requests: list[Request]) -> None:
        """These started, for the first time, and their other choices with them."""
        now = self._now()
        for request in requests:
            waited = now - self._since.get(request.id, now)
            self.counts[bisect_left(WAIT_BOUNDS, waited)] += 1
            self.waited += waited
            self.latest[request.id] = waited
            for name in _names(request):
                self._since.pop(name, None)
        requests.clear()

    def take_latest(self) -> dict[str, float]:
        """What is in ``latest``, which is empty from now on."""
        latest, self.latest = self.latest, {}
        return latest

    def ended(self, name: str) -> None:
        """A choice ended, whether it had started or not."""
        self._since.pop(name, None)

    def elapse(self, waiting: int, reason: str, loading: int = 0) -> None:
        """Since the last call so many requests have waited, the first of them for this reason; others were read.

        Where it waits for memory, or to be loaded, those behind it wait for it: perhaps they would fit.
        """
        now = self._now()
        seconds, self._last = now - self._last, now
        self.seconds[LOAD] += seconds * loading
        if waiting:
            first = 1 if reason in BEHIND else waiting
            self.seconds[reason] += seconds * first
            self.seconds[ORDER] += seconds * (waiting - first)


def _names(request: Request) -> Iterable[str]:
    """The choices that start with a request."""
    if isinstance(request, Hypothesis):
        return request.search.names
    return (request.id, *(branch.id for branch in request.branches))
