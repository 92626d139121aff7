"""Arrays of a step on their way to the device: many are added one by one, and one copy takes them all there."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from infergc.units import ceil_div

_ALIGNMENT = 16  # bytes: what any type of ours and any vector load asks for


class Parcel:
    """An array that was added to a freight."""

    __slots__ = ("_tensor",)

    def __init__(self, tensor: torch.Tensor | None = None) -> None:
        self._tensor = tensor

    @property
    def tensor(self) -> torch.Tensor:
        """It, on the device, in the order of what the thread gives the device; the freight has left."""
        assert self._tensor is not None, "the freight has not left yet"
        return self._tensor

    def arrive(self, tensor: torch.Tensor) -> None:
        """The freight has left, and this is where the array will be."""
        self._tensor = tensor


class Freight(Protocol):
    """What goes to the device for a step.

    Attributes:
        place: the device's name in torch.
    """

    place: torch.device

    def add(self, array: NDArray[Any]) -> Parcel:
        """Take an array along; it is not changed before the freight has left."""
        ...

    def send(self) -> None:
        """Leave, with all that was added since the last time."""
        ...


class Crate:
    """Arrays laid out behind each other in bytes, and found again in a copy of those.

    Attributes:
        size: bytes that all take.
    """

    def __init__(self) -> None:
        self.size = 0
        self._packed: list[tuple[int, NDArray[Any], Parcel]] = []  # where it begins

    def add(self, array: NDArray[Any]) -> Parcel:
        """Lay an array behind the others."""
        parcel = Parcel()
        self._packed.append((self.size, np.ascontiguousarray(array), parcel))
        self.size += ceil_div(array.nbytes, _ALIGNMENT) * _ALIGNMENT
        return parcel

    def fill(self, memory: NDArray[np.uint8]) -> None:
        """Write the bytes, [size]."""
        for start, array, _ in self._packed:
            memory[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)

    def unpack(self, there: torch.Tensor) -> None:
        """All parcels arrive: views of the bytes that are copied there, [size] uint8."""
        for start, array, parcel in self._packed:
            kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
            parcel.arrive(there[start : start + array.nbytes].view(kind).view(array.shape))


class Direct:
    """Implements ``Freight`` without waiting for others: each array goes by itself, and not at all on the host."""

    def __init__(self, place: torch.device | str) -> None:
        self.place = torch.device(place)

    def add(self, array: NDArray[Any]) -> Parcel:
        """See ``Freight``."""
        return Parcel(torch.from_numpy(np.ascontiguousarray(array)).to(self.place))

    def send(self) -> None:
        """See ``Freight``."""
