"""The scenarios' workloads, made of recorded traces by seed; see docs/scenarios.md."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infergc.bench.scenarios.systems import Load
from infergc.config import ConfigError
from infergc.sim.draws import Draws
from infergc.sim.requests import TraceRequest
from infergc.sim.traces.errors import TraceError
from infergc.sim.traces.read import read_trace
from infergc.sim.transform import between, first, scale_arrivals
from infergc.units import ceil_div

LONG = (8192, 32768)  # tokens of a prompt in the scenario of long contexts
LOADED = 0.8  # of the device's saturated rate, there
SHARES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)  # per cent of the mean prompt that is the system prompt
JUDGED_SHARE = 60  # the seed's shared share: what the bar is held against
SYSTEM_BLOCK = 16  # tokens
_MOONCAKE, _AZURE = "mooncake_conversation*", "azure*conv*"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each workload is run.

    Attributes:
        long: requests of long contexts.
        many: requests of the other two.
        seats: of which run at once.
        seed: of what is drawn.
        quick: too little for figures that could be held against the bars; searches are coarse.
    """

    long: int = 200
    many: int = 1024
    seats: int = 256
    seed: int = 0
    quick: bool = False


QUICK = Sizes(long=6, many=16, seats=6, quick=True)


class Traces:
    """The traces that workloads are made of, read where they lie.

    Args:
        directory: with a Mooncake conversation trace and an Azure conversation trace.

    Raises:
        ConfigError: one of them is not there.
    """

    def __init__(self, directory: Path) -> None:
        self.mooncake = _find(directory, _MOONCAKE)
        self.azure = _find(directory, _AZURE)


def long_contexts(traces: Traces, sizes: Sizes) -> Load:
    """Mooncake's requests of long prompts from the trace's beginning, as they came, with what they share."""
    requests = first(between(_read(traces.mooncake), *LONG), sizes.long)
    if not requests:
        raise ConfigError(f"--traces: {traces.mooncake} has no prompt of {LONG[0]} to {LONG[1]} tokens")
    start = requests[0].arrival
    moved = (replace(request, arrival=request.arrival - start) for request in requests)
    return Load(tuple(moved), sizes.seats)


def slowed(load: Load, saturated: float) -> Load:
    """Let requests come at ``LOADED`` of a rate, in requests a second.

    Raises:
        ConfigError: all of them come at once, so that there is nothing to slow.
    """
    requests, last = load.requests, load.requests[-1].arrival
    if not last:
        raise ConfigError(
            f"--traces: the long prompts of the Mooncake trace all come at once ({len(requests)} of them)"
        )
    wanted = (len(requests) - 1) / (LOADED * saturated)
    return replace(load, requests=tuple(scale_arrivals(requests, wanted / last)))


def together(load: Load) -> Load:
    """Let all come at once."""
    return replace(load, requests=tuple(scale_arrivals(load.requests, 0)))


def concurrent(traces: Traces, sizes: Sizes) -> Load:
    """All at once, prompt and output lengths of requests drawn from Azure's conversations; nothing is shared."""
    recorded = _read(traces.azure)
    draws = Draws("scenarios", sizes.seed)
    drawn = (recorded[int(draws.share() * len(recorded))] for _ in range(sizes.many))
    return Load(tuple(replace(request, arrival=0.0) for request in drawn), sizes.seats)


def system_prompt(traces: Traces, sizes: Sizes, share: float) -> Load:
    """The same requests, each behind one system prompt, which is so much of the mean prompt.

    Args:
        traces: where lengths come from.
        sizes: how many.
        share: per cent.
    """
    load = concurrent(traces, sizes)
    return behind(load, system_tokens(load.requests, share))


def system_tokens(tails: Sequence[TraceRequest], share: float) -> int:
    """Tokens of a system prompt that is ``share`` per cent of the mean prompt, in whole blocks."""
    mean = sum(request.input_len for request in tails) / len(tails)
    return round(mean * share / (100 - share) / SYSTEM_BLOCK) * SYSTEM_BLOCK


def behind(load: Load, system: int) -> Load:
    """Put a system prompt of so many tokens in front of each request."""
    shared = tuple(range(system // SYSTEM_BLOCK))
    requests: list[TraceRequest] = []
    new = len(shared)
    for tail in load.requests:
        own = ceil_div(tail.input_len, SYSTEM_BLOCK)
        blocks = shared + tuple(range(new, new + own))
        new += own
        requests.append(replace(tail, input_len=system + tail.input_len, blocks=blocks, block_tokens=SYSTEM_BLOCK))
    return replace(load, requests=tuple(requests))


def _find(directory: Path, pattern: str) -> Path:
    found = sorted(directory.glob(pattern))
    if not found:
        raise ConfigError(f"--traces: {directory} has no file {pattern}")
    return found[0]


def _read(path: Path) -> list[TraceRequest]:
    try:
        return read_trace(path)
    except TraceError as error:
        raise ConfigError(f"--traces: {error}") from None
