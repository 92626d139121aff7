"""KV is copied, whatever it takes."""

from dataclasses import dataclass

from infergc.sched.tier_use import Ways


@dataclass(frozen=True, slots=True)
class Always:
    """What lies below is loaded, and what gives way is swapped as long as the host tier has room."""

    def transfers(self, ways: Ways) -> bool:  # noqa: ARG002 - whatever it takes
        """Whether KV is copied: always."""
        return True
