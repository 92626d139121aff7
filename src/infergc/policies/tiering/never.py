"""KV is computed again, but for what the caches still have of it by then."""

from dataclasses import dataclass

from infergc.sched.tier_use import Ways


@dataclass(frozen=True, slots=True)
class Never:
    """Nothing is copied on purpose."""

    def transfers(self, ways: Ways) -> bool:  # noqa: ARG002 - whatever it takes
        """Whether KV is copied: never."""
        return False
