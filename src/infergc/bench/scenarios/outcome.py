"""What one run of one system gave, and when a run is stopped early."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run.

    Attributes:
        requests, finished: of the workload, and of them those that ran to their end.
        seconds: of simulated time until the last had ended.
        output_tokens: of those that finished.
        peak_bytes: most bytes that were held for live requests at once. Pages that are kept for reuse alone do not
            count; those that a step in flight still reads do.
        preempted: requests that had to give their memory back at least once.
        preemptions: how often that happened.
        spread_bytes: of contiguous memory, one more than the highest address that was ever held; None otherwise.
        holes: share of the addresses up to there that nobody held when it was reached (external fragmentation).
        lost: of contiguous memory, the mean share of the pool that was free while there was no hole for what was
            asked for (external fragmentation in a full pool); None where nothing was refused, or memory is paged.
        whole: False if the run was stopped early or a request was refused: it cannot hold what was asked of it.
    """

    requests: int
    finished: int
    seconds: float
    output_tokens: int
    peak_bytes: int
    preempted: int
    preemptions: int
    spread_bytes: int | None = None
    holes: float | None = None
    lost: float | None = None
    whole: bool = True

    @property
    def throughput(self) -> float:
        """Output tokens a second."""
        return self.output_tokens / self.seconds if self.seconds else 0.0


class GivenUp(Exception):  # noqa: N818 - no error: the run has shown what it was to show
    """A run went over its limits, or can never end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run must keep to.

    Attributes:
        seconds: of simulated time.
        preempted: requests.
    """

    seconds: float = inf
    preempted: float = inf

    def check(self, seconds: float, preempted: int) -> None:
        """Look whether a run still keeps to them.

        Raises:
            GivenUp: it does not.
        """
        if seconds > self.seconds or preempted > self.preempted:
            raise GivenUp


NO_LIMITS = Limits()
