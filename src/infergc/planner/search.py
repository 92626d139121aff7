"""Bisection over runs: the most that still holds."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from infergc.planner.probe import Engine, Outcome, Prober, fits, tried

Found = TypeVar("Found")

_GROWTH = 1.3  # from guess to guess, until one holds and one does not
PRECISION = 0.02  # of what is found
MOST_TOKENS = 1 << 20  # of a step
_WAVES = 3  # requests of a run for each that memory holds, at least


def most_clients(
    prober: Prober, engine: Engine, guess: int, most: int, precision: float = PRECISION
) -> tuple[int, Outcome] | None:
    """The most clients whose requests run at once, and the run with them; None if not even one's do.

    Memory holds them back, or else the speed of prompts: short answers end before others have begun.

    Args:
        prober: of the load.
        engine: that serves them.
        guess: where to begin.
        most: clients that are tried.
        precision: of the answer, as a share of it.
    """

    def run(clients: int) -> Outcome | None:
        outcome = tried(lambda: prober.flat_out(engine, clients))
        return outcome if outcome is not None and fits(outcome, clients) else None

    return largest(run, guess, most, precision)


def largest_again(prober: Prober, engine: Engine, clients: int) -> tuple[int, Outcome] | None:
    """So many clients, or fewer where the requests that the prober has settled for do not run at once."""
    outcome = prober.flat_out(engine, clients)
    if fits(outcome, clients):
        return clients, outcome
    return most_clients(prober, engine, int(clients / _GROWTH), clients - 1) if clients > 1 else None


def most_held(prober: Prober, engine: Engine, known: int, guess: int, most: int) -> int:
    """The most requests whose KV memory holds at once, whatever the speed of prompts: a step takes all there are.

    Args:
        prober: of the load.
        engine: whose memory it is.
        known: requests that it is known to hold.
        guess: where to begin.
        most: requests that are tried.
    """
    load = prober.load
    whole = replace(engine, settings={**engine.settings, "max_num_batched_tokens": MOST_TOKENS})

    def run(clients: int) -> Outcome | None:
        outcome = tried(
            lambda: prober.flat_out(whole, clients, max(prober.count, _WAVES * clients, load.enough_for(clients)))
        )
        return outcome if outcome is not None and fits(outcome, clients) else None

    found = largest(run, max(guess, known + 1), most, known=known)
    return found[0] if found else known


def largest(
    run: Callable[[int], Found | None], guess: int, most: int, precision: float = PRECISION, known: int = 0
) -> tuple[int, Found] | None:
    """The largest number from ``known`` + 1 to ``most`` for which ``run`` gives something, and what it gives.

    Whoever is below one that holds is taken to hold. Cost: O(log) runs of the distance between guess and answer.
    """
    best: tuple[int, Found] | None = None
    low, high = known, most + 1  # holds, does not hold
    trial = max(1, min(guess, most))
    while high - low > max(1, int(precision * low)):
        found = run(trial)
        if found is None:
            high = trial
        else:
            low, best = trial, (trial, found)
        trial = _next(low, high, most)
    return best


def _next(low: int, high: int, most: int) -> int:
    """Between the two, or a step beyond the only one that was tried."""
    if high > most:
        return min(most, max(low + 1, int(low * _GROWTH)))
    if not low:
        return max(1, int(high / _GROWTH)) if high > 1 else 0
    return (low + high) // 2


def highest_rate(run: Callable[[float], Found | None], top: float) -> tuple[float, Found] | None:
    """The highest rate up to ``top`` for which ``run`` gives something, to 3 %, and what it gives.

    None if a 64th of ``top`` is too much.
    """
    found = run(top)
    if found is not None:
        return top, found
    low, high = top / 2, top
    while (found := run(low)) is None:
        low, high = low / 2, low
        if low < top / 64:
            return None
    best = (low, found)
    while high > 1.03 * low:
        middle = (low + high) / 2
        found = run(middle)
        if found is None:
            high = middle
        else:
            low, best = middle, (middle, found)
    return best
