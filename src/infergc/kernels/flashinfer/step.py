"""A planned step: what its layers share, and the library's plans of it, each made when its scale and window are met.

Shapes: T tokens of the step, I page numbers of all rows.
"""

from typing import TYPE_CHECKING
from weakref import finalize

import numpy as np

from infergc.kernels.flashinfer.layout import Part, Work
from infergc.kernels.freight import Freight

if TYPE_CHECKING:
    from infergc.kernels.flashinfer.lanes import Lane, Lanes


class FlashInferStep:
    """A step whose integers are on the device, or on their way there.

    The library fixes scale and window when it plans, and layers of one step may differ in both: so it plans once for
    each pair of them that a layer brings. The wrappers are given back when nobody has the step any more.

    Attributes:
        work: the step in the library's words.
        slots_T: int32: where each token is written.
        order_T: int64: which token stands where in the library's order; None where all stay.
    """

    def __init__(self, work: Work, freight: Freight, lanes: "Lanes") -> None:
        self.work = work
        self.slots_T = freight.add(work.slots_T.astype(np.int32))
        self.order_T = None if work.order_T is None else freight.add(work.order_T)
        self._pages_I = freight.add(work.pages_I.astype(np.int32))
        self._lanes = lanes
        self._taken: list[Lane] = []
        self._planned: dict[tuple[float, int], list[tuple[Part, Lane]]] = {}
        finalize(self, lanes.give_back, self._taken)

    def planned(self, scale: float, window_left: int) -> "list[tuple[Part, Lane]]":
        """The parts, each with a wrapper that is planned for it."""
        key = scale, window_left
        if key not in self._planned:
            self._planned[key] = [(part, self._plan(part, scale, window_left)) for part in self.work.parts]
        return self._planned[key]

    def _plan(self, part: Part, scale: float, window_left: int) -> "Lane":
        lane = self._lanes.take(decode=part.decode)
        self._taken.append(lane)
        lane.plan(part, self._pages_I.tensor[part.pages], scale, window_left)
        return lane
