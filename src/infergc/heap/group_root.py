"""A beam search's hold on its group of hypotheses."""

from infergc.heap.heap import Heap
from infergc.heap.objects import Sequence


class GroupRoot:
    """The root that keeps a beam group, and so its hypotheses, while the search goes on.

    Every hypothesis that comes to hold pages joins, and leaves instead of being closed: from then on the group alone
    keeps it.
    """

    def __init__(self, heap: Heap, owner: str) -> None:
        self._heap = heap
        self._group = heap.beam_group(owner)

    def join(self, sequence: Sequence) -> None:
        """A hypothesis holds pages from now on. Cost: O(1)."""
        self._heap.join(self._group, sequence)
        self._heap.graph.unroot(sequence)

    def leave(self, sequence: Sequence) -> None:
        """A hypothesis ends; what only it held is free at once, or when the steps in flight that read it are done."""
        self._heap.leave(self._group, sequence)

    def drop(self) -> None:
        """The search is over or was cancelled. Hypotheses that did not leave are a cycle with the group."""
        self._heap.graph.unroot(self._group)
