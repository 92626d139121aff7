"""What lies in a lower tier is loaded where that is sooner than to compute it."""

from dataclasses import dataclass

from infergc.sched.tier_use import Ways


@dataclass(frozen=True, slots=True)
class Sooner:
    """Load what takes at most ``share`` of the time that computing it would: an estimate may be wrong by as much."""

    share: float = 0.8

    def transfers(self, ways: Ways) -> bool:
        """Whether it is loaded; while nothing is known of computing, nothing speaks against it."""
        return ways.transfer <= self.share * ways.compute or not ways.compute
