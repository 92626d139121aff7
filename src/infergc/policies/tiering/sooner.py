"""KV is copied where that is sooner than to compute it."""

from dataclasses import dataclass

from infergc.sched.tier_use import Ways


@dataclass(frozen=True, slots=True)
class Sooner:
    """Copy what takes at most ``share`` of the time that computing it would: an estimate may be wrong by as much."""

    share: float = 1.0

    def transfers(self, ways: Ways) -> bool:
        """Whether KV is copied; while nothing is known of computing, nothing speaks against it."""
        return ways.transfer <= self.share * ways.compute or not ways.compute
