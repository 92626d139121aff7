"""The copier: pages go between device and host on a thread of their own, while earlier steps compute."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import NamedTuple

from infergc.heap.moves import Move
from infergc.worker.moving import make
from infergc.worker.storage import KVStorage


class Copied(NamedTuple):
    """What copying a step's pages took."""

    size: int  # bytes
    seconds: float


class Copier:
    """Makes the transfers of steps in the order of their launch.

    It may run ahead of the worker by the steps in flight. Pages that they read are not written (law 5), and pages that
    are stored are sealed, so all that it waits for are the moves within the device that stand before. The scheduler
    gives no page back to which a copy of the plan being made writes: so transfers go before all copies of their step.

    What cannot be copied is tried again; where that fails too, the step says ``StorageLost``.

    Args:
        storage: whose pages and slots these are.
    """

    def __init__(self, storage: KVStorage) -> None:
        self._storage = storage
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="infergc-copier")
        self._thread.submit(int).result()  # runs from now on: no step that cannot start loses its moves

    def start(self, moves: tuple[Move, ...], after: Event) -> Future[Copied]:
        """Copy these pages once ``after`` is set: the moves of the step before were made."""
        return self._thread.submit(self._copy, moves, after)

    def close(self) -> None:
        """Finish what was started."""
        self._thread.shutdown(wait=True)

    def _copy(self, moves: tuple[Move, ...], after: Event) -> Copied:
        after.wait()
        began = time.perf_counter()
        make(moves, self._storage.apply, self._storage.page_tokens)
        return Copied(sum(map(self._storage.size, moves)), time.perf_counter() - began)
