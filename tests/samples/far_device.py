"""Devices that are not there, to see what goes to one and what its host waits for."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from infergc.kernels.freight import Crate, Parcel


class Packed:
    """Implements ``Freight`` as to a device: no array is there before it has left, and none is looked at afterwards.

    Attributes:
        sent: how often it left with anything.
    """

    place = torch.device("cpu")

    def __init__(self) -> None:
        self._crate = Crate()
        self.sent = 0

    def add(self, array: NDArray[Any]) -> Parcel:
        return self._crate.add(array)

    def send(self) -> None:
        crate, self._crate = self._crate, Crate()
        self.sent += crate.size > 0
        memory = np.empty(crate.size, np.uint8)
        crate.fill(memory)
        crate.unpack(self._there(memory))

    def _there(self, memory: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(memory)


class PackedAway(Packed):
    """The same, to ``FarDevice``."""

    place = torch.device("meta")

    def _there(self, memory: NDArray[np.uint8]) -> torch.Tensor:
        return torch.empty(memory.shape, dtype=torch.uint8, device=self.place)


class FarDevice(TorchDispatchMode):
    """Runs what is given to torch's "meta" device, which knows shapes alone; whoever reads from it gets zeros.

    Attributes:
        waits: how often the host read from it: values, or how many there are of something.
        copies: arrays of the host that were used there, or copied there; each was a wait too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.copies = 0, 0

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        answer = self._read(op.name(), args, kwargs or {}) if any(each.is_meta for each in tensors) else None
        if answer is not None:
            self.waits += 1
            return answer
        result = op(*args, **(kwargs or {}))
        there = [each.is_meta for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        self.copies += any(there) and not all(each.is_meta for each in tensors)
        return result

    @staticmethod
    def _read(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the host is answered, if it reads; else None."""
        if name == "aten::_local_scalar_dense":
            return 0
        if name == "aten::nonzero":
            return torch.empty((0, args[0].dim()), dtype=torch.int64, device="meta")
        if name == "aten::_to_copy" and kwargs.get("device") == torch.device("cpu"):
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return None
