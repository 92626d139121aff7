"""What gives way is swapped or computed again, whichever is estimated to be sooner."""

from dataclasses import dataclass

from infergc.sched.tier_use import Ways


@dataclass(frozen=True, slots=True)
class Auto:
    """Swap where copying there and back takes no longer than computing."""

    def transfers(self, ways: Ways) -> bool:
        """Whether it is swapped; while nothing is known of computing, it is."""
        return ways.transfer <= ways.compute or not ways.compute
