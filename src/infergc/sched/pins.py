"""Pins: prompts whose pages stay cached whatever comes, until their time is over.

A pin is a root of its own: no request and no session has to live for it. It ends when its time is over, or before that
where a request could not run otherwise: no pin keeps a request from starting for good.
"""

from collections import Counter
from dataclasses import dataclass

from infergc.cache_control import DEFAULT_TTL, CacheControl
from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace, Node
from infergc.heap.objects import Pin

PINNED, RENEWED, REFUSED = "pinned", "renewed", "refused"
ASKED = (PINNED, RENEWED, REFUSED)  # what came of asking for a pin
ENDED_FOR = ("ttl", "memory", "budget")  # why a pin ended


@dataclass(slots=True, eq=False)
class _Held:
    """A pin, its last second, and the priority of its pages."""

    pin: Pin
    until: int
    priority: int


class Pins:
    """The pins of a heap, by the node at which their prefix ends.

    Attributes:
        asked: how often pins were asked for, by what came of it.
        ended: how many ended, by reason.

    Args:
        heap: where they live; it has their budget.
    """

    def __init__(self, heap: Heap) -> None:
        self.asked: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._heap = heap
        self._held: dict[int, _Held] = {}  # by the node's id, which stays the same while something stands there
        self._soonest = 0  # no pin ends before this second, but for memory

    def pin(self, owner: str, namespace: Namespace, tip: Node | None, control: CacheControl) -> int:
        """Pin the pages down to a node for a time; returns their tokens, 0 where there are none or no budget for them.

        Where the same prefix is pinned already, this time counts from now on, be it longer or shorter.
        Cost: as ``Heap.pin``; O(1) where it is pinned already.
        """
        outcome = self._pin(owner, namespace, tip)
        self.asked[outcome] += 1
        if tip is None or outcome == REFUSED:
            return 0
        held = self._held[tip.id]
        held.until, held.priority = self._heap.tree.hints.now + (control.ttl or DEFAULT_TTL), control.level
        self._soonest = min(self._soonest, held.until)
        return held.pin.sealed * self._heap.page_tokens

    def tick(self, now: int) -> None:
        """The time is ``now``: pins may end. Cost: O(pins) where one may, and as ``Heap.unpin`` for each that does."""
        if self._soonest < now:
            for number in [number for number, held in self._held.items() if held.until < now]:
                self._end(number, "ttl")
            self._soonest = min((held.until for held in self._held.values()), default=now)

    def shed(self) -> bool:
        """Give up one pin for memory: of those of the lowest priority the one that ends soonest. False: there is none.

        Its pages stay cached as long as nobody needs them. Cost: O(pins).
        """
        if not self._held:
            return False
        self._end_least("memory")
        return True

    def limit(self, share: float) -> None:
        """Let pins hold this share of the pages from now on; what is over it ends, in the order of ``shed``.

        Cost: O(pins) for each that ends.
        """
        while self._held and self._heap.pinned > self._heap.pins_within(share):
            self._end_least("budget")
        self._heap.allow_pins(share)

    def __len__(self) -> int:
        return len(self._held)

    def _pin(self, owner: str, namespace: Namespace, tip: Node | None) -> str:
        if tip is None:
            return REFUSED
        if tip.id in self._held:
            return RENEWED
        pin = self._heap.pin(owner, namespace, tip)
        if pin is None:
            return REFUSED
        self._held[tip.id] = _Held(pin, 0, 0)
        return PINNED

    def _end_least(self, reason: str) -> None:
        order = ((held.priority, held.until, number) for number, held in self._held.items())
        self._end(min(order)[2], reason)

    def _end(self, number: int, reason: str) -> None:
        self._heap.unpin(self._held.pop(number).pin)
        self.ended[reason] += 1
