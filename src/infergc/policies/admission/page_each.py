"""Nothing is expected beyond a page for each that runs."""

from dataclasses import dataclass

import numpy as np

from infergc.sched.plan import I32
from infergc.sched.rows import Slots


@dataclass(frozen=True, slots=True)
class PageEach:
    """Admit whoever fits now: best where outputs are short, and thrashes where they are long."""

    def growth(self, slots: Slots, outputs: I32) -> I32:  # noqa: ARG002 - the protocol's
        """No growth."""
        return np.zeros(len(slots), np.int32)

    def learn(self, output: int) -> None:
        """Of no concern."""
