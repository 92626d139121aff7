"""What a work unit of the collector costs in microseconds, so that a budget of microseconds becomes one of units."""

_FIRST = 1.0  # µs, until it was measured
_RISE = 0.1  # by so much the price goes up after a pause that took too long
_MOST_FALLS = 10.0  # that one small pause may count for
_LEAST = 16  # units: anything less would not get anywhere


class UnitPrice:
    """Such a price that all pauses but a share of ``late`` take no longer than they may.

    What a unit takes differs by kind of work and by what is in the caches, and a machine shared with others stops
    everything now and then. So the price is no mean of what was measured: it goes up by a tenth after a pause that was
    too long, however long that was, and down a little after one that was not; it stands still on average when the
    share of pauses that are too long is ``late`` (Robbins and Monro, "A Stochastic Approximation Method", 1951).

    Args:
        late: share of the pauses, 0 to 1, that may take longer.

    Attributes:
        micros: of a unit.
    """

    def __init__(self, late: float = 0.01) -> None:
        self.micros = _FIRST
        self._fall = _RISE * late / (1 - late)

    def units(self, micros: float) -> int:
        """How many units so many microseconds are, at least a few."""
        return max(_LEAST, int(micros / self.micros))

    def learn(self, budget: int, work: int, micros: float) -> None:
        """A pause with this budget took so long for so much work.

        One that did more than its budget is measured by what it did. One that ended before its budget did shows that
        the price is too high in so far as it used the budget and as its own units were cheaper. Without that, pauses
        that are all small would never make up for a halt of the machine.
        """
        if micros > max(work, budget) * self.micros:
            self.micros *= 1 + _RISE
        elif work >= budget:
            self.micros *= 1 - self._fall
        else:
            cheaper = work * self.micros / micros if micros else 1.0
            self.micros *= 1 - self._fall * min(_MOST_FALLS, cheaper * work / budget)
