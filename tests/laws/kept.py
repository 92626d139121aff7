"""Operations on what is kept because somebody asked for it: pins, hints, and the time that ends them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from infergc.heap.heap import Heap
from infergc.heap.objects import Pin
from laws.streams import Stream

if TYPE_CHECKING:
    from laws.shapes import Shape


class Kept:
    """The part of a world that asks for prefixes to be kept.

    Attributes:
        pins: those that hold, with what they hold.
    """

    shape: "Shape"
    heap: Heap
    streams: list[Stream]
    seen: Any

    def __init__(self) -> None:
        self.pins: list[Stream] = []

    def do_pin(self, a: int, b: int, c: int) -> bool | None:
        """Pin what is cached of a stream; refused only beyond the budget."""
        tip = self._cached(a, b)
        if tip is None or any(pin.sequence.tip is tip for pin in self.pins):
            return False
        stream = self.streams[a % len(self.streams)]
        fresh = sum(node.length for node in self.heap.tree.path(tip) if not self._pinned(node))
        room = self.heap.pin_budget - self.heap.pinned
        pin = self.heap.pin(f"p{self.heap._next_id}", stream.sequence.namespace, tip)
        self._expect((pin is None) == (room < fresh), f"law 6: pinned {pin}, {fresh} pages with room for {room}")
        self.seen["pin refused"] += pin is None
        if pin is not None:
            self.seen["pin held"] += 1
            self.pins.append(Stream(pin, stream.tokens[: pin.tokens.size], stream.cells[: pin.tokens.size]))
            self.pins[-1].computed = pin.tokens.size
            self._verify(self.pins[-1], "law 7")
        return None

    def do_unpin(self, a: int, b: int, c: int) -> bool | None:
        if not self.pins:
            return False
        stream = self.pins.pop(a % len(self.pins))
        self._verify(stream, "law 6")
        self.heap.unpin(stream.sequence)
        return None

    def do_hint(self, a: int, b: int, c: int) -> bool | None:
        tip = self._cached(a, b)
        if tip is None:
            return False
        found = c % (1 + sum(node.length for node in self.heap.tree.path(tip)))
        self.heap.hint(tip, found, b % 101, 1 + c % 5 if a & 64 else None)
        return None

    def do_tick(self, a: int, b: int, c: int) -> bool | None:
        self.heap.tick(self.heap.tree.hints.now + 1 + a % 3)
        return None

    def _cached(self, a: int, b: int) -> Any:
        """Where a stream's cached prefix ends, or that of its first tokens; pins still hold what they held."""
        for pin in self.pins:
            self._verify(pin, "law 6")
        if not self.streams:
            return None
        stream = self.streams[a % len(self.streams)]
        if stream.private is not None or not stream.computed:
            return None
        tokens = np.array(stream.tokens[: max(1, stream.computed - b % 3 * self.shape.page_tokens)], np.int32)
        tip = self.heap.cached(stream.sequence.namespace, tokens)
        self.heap.check()
        return tip

    def _pinned(self, node: Any) -> bool:
        """Whether a pin holds a node's pages, by the pins alone."""
        pins = (one for one in self.heap.sequences.values() if isinstance(one, Pin))
        return any(node in self.heap.tree.path(pin.tip) for pin in pins)

    def _verify(self, stream: Stream, law: str) -> None:
        raise NotImplementedError

    @staticmethod
    def _expect(condition: bool, message: str) -> None:
        """See ``Wholes``, which stands before this in a world."""
        raise NotImplementedError
