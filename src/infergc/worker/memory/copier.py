"""The copier: pages go between device and host on a thread of their own, while earlier steps compute."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import NamedTuple

from infergc.heap.errors import StorageLost
from infergc.heap.moves import Move
from infergc.worker.devices.device import Device, Fence, drain
from infergc.worker.memory.moving import make
from infergc.worker.memory.storage import KVStorage


class Moving:
    """The moves of a step.

    Attributes:
        made: whether all of them were given to the device.
        fence: behind them, once they were.
        over: is set when they were, or never will be; who waits for that learns the rest from the step's outcome.
    """

    def __init__(self) -> None:
        self.made = False
        self.fence: Fence = None
        self.over = Event()


class Copied(NamedTuple):
    """The copying of a step's pages; it is over when ``ended`` is reached."""

    size: int  # bytes
    began: Fence
    ended: Fence


class Copier:
    """Makes the transfers of steps in the order of their launch.

    It may run ahead of the worker by the steps in flight. Pages that they read are not written (law 5), and pages that
    are stored are sealed, so all that it waits for are the moves within the device that stand before. A copy that is
    planned to a page which was given back and is loaded to is dropped (``Heap._drop_copies_to``): so transfers go
    before all copies of their step.

    What cannot be copied is tried again; where that fails too, the step says ``StorageLost``.

    Args:
        storage: whose pages and slots these are.
        device: of the storage.
    """

    def __init__(self, storage: KVStorage, device: Device) -> None:
        self._storage = storage
        self._device = device
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="infergc-copier")
        self._thread.submit(device.enter).result()  # runs from now on: no step that cannot start loses its moves

    def start(self, moves: tuple[Move, ...], after: Moving | None) -> Future[Copied]:
        """Copy these pages once the moves of the step before were made."""
        return self._thread.submit(self._copy, moves, after)

    def close(self) -> None:
        """Finish what was started."""
        self._thread.submit(drain, self._device)
        self._thread.shutdown(wait=True)

    def _copy(self, moves: tuple[Move, ...], after: Moving | None) -> Copied:
        if after is not None:
            after.over.wait()
            if not after.made:
                raise StorageLost("the moves of the step before were not made")
            self._device.wait(after.fence)
        began = self._device.fence()
        make(moves, self._storage.apply)
        return Copied(sum(map(self._storage.size, moves)), began, self._device.fence())
