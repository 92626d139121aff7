"""The load that latency targets allow: found by bisection of the rate at which requests come."""

from dataclasses import dataclass

from infergc.planner.probe import PREEMPTED, Engine, Outcome, Prober, Spread
from infergc.planner.search import highest_rate

_ALONE = 20  # requests one after the other, which are served as fast as can be


@dataclass(frozen=True, slots=True)
class Targets:
    """What nine requests in ten are to keep, in seconds; None for no target.

    Attributes:
        ttft: to the first token.
        tpot: for a token after it.
    """

    ttft: float | None = None
    tpot: float | None = None

    def __bool__(self) -> bool:
        return self.ttft is not None or self.tpot is not None

    def missed(self, outcome: Outcome) -> list[str]:
        """The targets that a run does not keep: of ``ttft`` and ``tpot``."""
        pairs = (("ttft", self.ttft, outcome.ttft), ("tpot", self.tpot, outcome.tpot))
        return [name for name, most, found in pairs if _over(found, most)]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What targets allow.

    Attributes:
        rate: requests a second; 0 if not even one alone is served in time.
        outcome: of the run at that rate, or of one request alone.
        missed: of one request alone: which targets.
    """

    rate: float
    outcome: Outcome
    missed: tuple[str, ...] = ()


def allowed(prober: Prober, engine: Engine, targets: Targets, seqs: int, flat_out_rate: float) -> Allowed:
    """The highest rate at which the targets hold with at most ``seqs`` running; never above what goes flat out."""
    alone = prober.flat_out(engine, 1, _ALONE)
    if missed := targets.missed(alone):
        return Allowed(0.0, alone, tuple(missed))

    def run(rate: float) -> Outcome | None:
        outcome = prober.at_rate(engine, rate, seqs, flat_out_rate)
        return None if targets.missed(outcome) or outcome.preempted > PREEMPTED else outcome

    found = highest_rate(run, flat_out_rate)
    return Allowed(*found) if found else Allowed(0.0, alone)


def _over(found: Spread | None, most: float | None) -> bool:
    return most is not None and found is not None and found.p90 > most
