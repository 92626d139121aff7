"""The reference graph of heap objects: counted edges and roots; what nothing counts any more is freed at once.

A root is a reference from outside the heap: a request that runs, a session that is open. Counts free everything but
cycles: an object that lost a reference and has others left is a candidate for ``cycles.collect``.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator

from infergc.heap.errors import HeapCorruption
from infergc.heap.objects import HeapObject


class ObjectGraph:
    """All heap objects and who holds them.

    Attributes:
        objects: every object that was not freed, by id.
        rooted: those with a root, by id.
        candidates: those that lost a reference and have others left, in the order in which they did, by id.

    Args:
        free: called once for an object that goes, when nothing holds it and it holds nothing any more.
    """

    def __init__(self, free: Callable[[HeapObject], None]) -> None:
        self.objects: dict[int, HeapObject] = {}
        self.rooted: dict[int, HeapObject] = {}
        self.candidates: OrderedDict[int, HeapObject] = OrderedDict()  # taken from the front, which dict makes slow
        self._free = free
        self._watched = -1  # the id up to which drops are kept; -1: none are
        self._dropped: dict[int, HeapObject] = {}  # by id; see ``watch_drops``

    def add(self, one: HeapObject) -> None:
        """Take in a new object, with one root. Cost: O(1)."""
        one.refs = one.roots = 1
        self.objects[one.id] = self.rooted[one.id] = one

    def root(self, one: HeapObject) -> None:
        """Add a root. Cost: O(1)."""
        one.refs += 1
        one.roots += 1
        self.rooted[one.id] = one

    def unroot(self, one: HeapObject) -> None:
        """Drop a root; with its last reference the object goes. Cost: O(objects freed and their edges).

        Raises:
            HeapCorruption: there is none.
        """
        if not one.roots:
            raise HeapCorruption(f"law 2: object {one.id} of {one.owner} has no root to drop")
        one.roots -= 1
        if not one.roots:
            del self.rooted[one.id]
        self._lose(one)

    def hold(self, holder: HeapObject, held: HeapObject) -> None:
        """Let one object keep another, or itself. Cost: O(1).

        Raises:
            HeapCorruption: it does already, or one of the two was freed.
        """
        if held.id in holder.holds or not {holder.id, held.id} <= self.objects.keys():
            raise HeapCorruption(f"law 2: object {holder.id} cannot hold {held.id}: it does, or one of them is gone")
        holder.holds[held.id] = held
        held.refs += 1

    def let_go(self, holder: HeapObject, held: HeapObject) -> None:
        """Drop the reference that one object has to another. Cost: as ``unroot``."""
        del holder.holds[held.id]
        self._lose(held)

    def destroy(self, garbage: list[HeapObject]) -> None:
        """Free objects that hold each other and that nothing else holds. Cost: O(objects and their edges)."""
        doomed = {one.id for one in garbage}
        for one in garbage:
            outside = [held for held in one.holds.values() if held.id not in doomed]
            one.holds.clear()
            for held in outside:
                self._lose(held)
        for one in garbage:
            one.refs = 0
            self._remove(one)

    def watch_drops(self, *, on: bool) -> None:
        """Keep, or stop keeping, the objects that lose a reference for ``take_drops``: each once, of those there now.

        So they are never more than there are now, whatever comes and goes before they are taken.
        """
        self._watched = next(reversed(self.objects), -1) if on else -1
        self._dropped.clear()

    def take_drops(self) -> list[HeapObject]:
        """The objects that lost a reference since the last call. Cost: O(objects taken)."""
        taken = list(self._dropped.values())
        self._dropped.clear()
        return taken

    def __iter__(self) -> Iterator[HeapObject]:
        return iter(self.objects.values())

    def _lose(self, one: HeapObject) -> None:
        going = [one]
        while going:
            one = going.pop()
            if one.id <= self._watched:
                self._dropped[one.id] = one
            one.refs -= 1
            if one.refs:
                self.candidates[one.id] = one
                continue
            going.extend(one.holds.values())
            one.holds.clear()
            self._remove(one)

    def _remove(self, one: HeapObject) -> None:
        del self.objects[one.id]
        self.candidates.pop(one.id, None)
        self._free(one)
