"""The hypotheses of one beam search that hold pages."""

from infergc.heap.heap import Heap
from infergc.heap.objects import Sequence


class BeamGroup:
    """Sequences that live and end together: a hypothesis may leave when it lost, and all go when the search is over.

    Every hypothesis that comes to hold pages joins, and leaves instead of being closed: this is the one place
    that ends them.
    """

    def __init__(self, heap: Heap) -> None:
        self._heap = heap
        self._hypotheses: dict[int, Sequence] = {}

    def join(self, sequence: Sequence) -> None:
        """A hypothesis holds pages from now on."""
        self._hypotheses[sequence.id] = sequence

    def leave(self, sequence: Sequence) -> None:
        """A hypothesis ends; what only it held is free at once, or when the steps in flight that read it are done."""
        del self._hypotheses[sequence.id]
        self._heap.close(sequence)

    def drop(self) -> None:
        """The search is over, or was cancelled: all that is left ends."""
        for sequence in self._hypotheses.values():
            self._heap.close(sequence)
        self._hypotheses.clear()
