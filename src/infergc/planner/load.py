"""The requests that are planned for: of one length, of a recorded trace, or of a seeded workload."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from infergc.config import ConfigError
from infergc.sim.draws import MICROS, Draws
from infergc.sim.named import requests_named
from infergc.sim.requests import TraceRequest, turns_that_follow
from infergc.sim.traces import TraceError
from infergc.sim.transform import scale_arrivals
from infergc.sim.workloads import WorkloadError
from infergc.units import ceil_div
from infergc.wording import counted

_RUN_WORK = 600_000  # of a run at most: tokens in all outputs, and a few more for each request
_A_REQUEST = 50  # tokens that cost about as long to simulate as what a request takes beside its own
_BEAM = 16  # times as long as another does a token of a beam take
_FEWEST = 40  # requests that are kept whatever they cost


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in order of arrival, at least one.

    Attributes:
        requests: all that are simulated.
        words: what they are, for people.
        own_rate: requests a second as recorded; None where lengths alone are known.
        cut: whether there are more than are simulated.
        recorded: whether there are only so many; requests of one length never run out.
    """

    requests: Sequence[TraceRequest]
    words: str
    own_rate: float | None = None
    recorded: bool = True
    cut: bool = False

    @property
    def shares(self) -> bool:
        """Whether some prompts may begin alike."""
        return any(request.blocks for request in self.requests)

    @property
    def lengths(self) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """Tokens of each request at its end, all its choices together."""
        whole = (request.input_len + request.choices * request.output_len for request in self.requests)
        return np.fromiter(whole, np.int64)

    @property
    def mean_output(self) -> float:
        """Tokens of an output on the average."""
        return sum(request.output_len for request in self.requests) / len(self.requests)

    @property
    def choices(self) -> int:
        """Most texts of one request, each of which takes a place among the running."""
        return max(request.choices for request in self.requests)

    def at_once(self, count: int) -> int:
        """Of the first ``count`` requests, those that may be under way together: one of each conversation."""
        requests = self.requests[:count]
        return len(requests) - len(turns_that_follow(requests))

    def enough_for(self, clients: int) -> int:
        """Requests, from the first on, of which so many may be under way together; all if there are too few."""
        follow = set(turns_that_follow(self.requests).values())
        beginnings = [number for number in range(len(self.requests)) if number not in follow]
        return beginnings[clients - 1] + 1 if clients <= len(beginnings) else len(self.requests)

    def at_rate(self, count: int, rate: float) -> list[TraceRequest]:
        """The first ``count``, in the rhythm of their arrivals, ``rate`` a second on the average."""
        taken = list(self.requests[:count])
        span = taken[-1].arrival
        return scale_arrivals(taken, len(taken) / span / rate) if span else taken

    def most_pages(self, page_tokens: int) -> int:
        """Pages of the longest request at its end, nothing shared."""
        return ceil_div(int(self.lengths.max()), page_tokens)

    def most_taken(self, page_tokens: int) -> int:
        """Most pages that a request needs to run beside others: its own, or those of its prompt and one to go on with.

        The scheduler lets nobody in who would take that one from those that run.
        """
        prompt = max(ceil_div(request.input_len, page_tokens) + request.choices for request in self.requests)
        return max(self.most_pages(page_tokens), prompt)


def of_one_length(input_len: int, output_len: int, count: int) -> Load:
    """Requests that share nothing and come by a Poisson process."""
    requests = [TraceRequest(0.0, input_len, output_len)] * count
    return Load(_by_chance(requests), f"{input_len:,} tokens in, {output_len:,} out", recorded=False)


def load_named(name: str) -> Load:
    """The load that ``--trace`` names: a file, or a workload such as ``chat:requests=500``.

    Raises:
        ConfigError: it is neither, cannot be read, or a knob is wrong; see ``sim.named``.
    """
    try:
        requests, _ = requests_named(name)
    except (TraceError, WorkloadError) as error:
        raise ConfigError(f"--trace: {error}") from error
    span = requests[-1].arrival
    words = f"{counted(len(requests), 'request')} of {Path(name).name}"
    if not span:
        return Load(_by_chance(requests), words)
    return Load(requests, words, own_rate=len(requests) / span)


def at_most(load: Load, tokens: int) -> Load:
    """The load without requests whose texts are longer.

    Raises:
        ConfigError: none is left.
    """
    left = [request for request in load.requests if request.input_len + request.output_len <= tokens]
    if not left:
        raise ConfigError(f"--trace: no request of it has at most {tokens:,} tokens, prompt and output together")
    gone = len(load.requests) - len(left)
    if not gone:
        return load
    words = f"{load.words}, without {gone:,} of over {tokens:,} tokens"
    first = left[0].arrival
    moved = [replace(request, arrival=request.arrival - first) for request in left]
    return replace(load, requests=moved, words=words)


def affordable(load: Load) -> Load:
    """The load cut to the first requests, as many as a run should take: a plan takes dozens of runs."""
    work = 0
    for count, request in enumerate(load.requests):
        work += _A_REQUEST + request.output_len * request.choices * (_BEAM if request.beam else 1)
        if work > _RUN_WORK and count >= _FEWEST:
            return replace(load, requests=load.requests[:count], words=f"the first {count:,} of {load.words}", cut=True)
    return load


def _by_chance(requests: Sequence[TraceRequest]) -> list[TraceRequest]:
    """One a second, by a Poisson process."""
    starts = islice(Draws("plan", 0).starts(1.0), len(requests))
    return [replace(each, arrival=micros / MICROS) for each, micros in zip(requests, starts, strict=True)]
