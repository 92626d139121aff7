"""A planned step: what its layers share, and the library's plans of it, each made when its scale and window are met.

Shapes: T tokens of the step, I page numbers of all rows.
"""

from typing import TYPE_CHECKING
from weakref import finalize

import torch

from infergc.kernels.flashinfer.layout import Part, Work
from infergc.kernels.triton.layout import I64

if TYPE_CHECKING:
    from infergc.kernels.flashinfer.lanes import Lane, Lanes


class FlashInferStep:
    """A step whose integers are on the device.

    The library fixes scale and window when it plans, and layers of one step may differ in both: so it plans once for
    each pair of them that a layer brings. The wrappers are given back when nobody has the step any more.

    Attributes:
        work: the step in the library's words.
        slots_T: int32, on the device: where each token is written.
        order_T: int64, on the device: which token stands where in the library's order; None where all stay.
    """

    def __init__(self, work: Work, device: str, lanes: "Lanes") -> None:
        self.work = work
        self.slots_T = _on_device(work.slots_T, torch.int32, device)
        self.order_T = None if work.order_T is None else _on_device(work.order_T, torch.int64, device)
        self._pages_I = _on_device(work.pages_I, torch.int32, device)
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
        lane.plan(part, self._pages_I[part.pages], scale, window_left)
        return lane


def _on_device(numbers: I64, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Copy numbers there, in the current stream's order and without waiting.

    Pinned memory is torch's to give out again, and it waits for the copy: nothing overwrites one under way.
    """
    staged = torch.empty(len(numbers), dtype=dtype, pin_memory=device == "cuda")
    staged.numpy()[:] = numbers
    return staged.to(device, non_blocking=True)
