"""What gives way is swapped, as long as the host tier has room."""

from dataclasses import dataclass

from infergc.sched.tier_use import Ways


@dataclass(frozen=True, slots=True)
class Swap:
    """Always copy."""

    def transfers(self, ways: Ways) -> bool:  # noqa: ARG002 - whatever it takes
        """Whether it is swapped: always."""
        return True
