"""What is said when a step found its storage damaged: in the log, and to the requests of that step."""

import logging

from infergc.heap.debug import DebugHeap
from infergc.heap.errors import StorageCorruption
from infergc.heap.heap import Heap

_LOG = logging.getLogger(__name__)


def corruption(heap: Heap, step: int, error: StorageCorruption) -> str:
    """The finding with the history of its pages and the requests concerned, which is logged too.

    Args:
        heap: knows the history if it is one for debugging; ``step`` is not completed in it yet.
        step: the step that found it.
        error: what was found.
    """
    told = heap.explain(step, error) if isinstance(heap, DebugHeap) else str(error)
    message = f"{type(error).__name__}: step {step}: {told}"
    _LOG.error("%s", message)
    return message
