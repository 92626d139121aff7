"""Least frequently used, by counts that outlive what they count."""

from dataclasses import dataclass

from infergc.heap.marks import marks_in, marks_of_prompt
from infergc.heap.nodes import I32, U64, Namespace, Node
from infergc.heap.retention import Retention
from infergc.policies.retention.alike import alike_at_end
from infergc.policies.retention.history import History

_ONE_USE = 2.0**44  # in a rank: more than any step's number


@dataclass(frozen=True, slots=True)
class Knobs:
    """Of ``Lfu``.

    Attributes:
        remembered: prefixes whose counts are remembered, in pools of pages; at most ``remembered_most`` pages.
    """

    remembered: float = 64
    remembered_most: int = 1 << 22


class Lfu(Retention):
    """Reclaim the leaf whose last page was asked for the fewest times; of those the one unused for longest.

    A count is of all times that a prompt had the page, cached or not ("perfect LFU": Breslau, Cao, Fan, Phillips and
    Shenker, "Web caching and Zipf-like distributions", INFOCOM 1999). It is another policy than LFU by counts that
    begin anew whenever a page comes back ("in-cache LFU"), which hits less. Counts end at 255, and are forgotten when a
    table of bounded size has no room for them, oldest first. Text that was generated counts as asked for once.
    """

    def __init__(self, knobs: Knobs = Knobs()) -> None:
        self._knobs = knobs
        self._now = 0

    def begin(self, pages: int, page_tokens: int) -> None:
        """Make room for what is to be remembered."""
        self._page_tokens = page_tokens
        self._history = History(min(int(self._knobs.remembered * pages), self._knobs.remembered_most))

    def asked(self, namespace: Namespace, prompt: I32) -> U64:
        """Count each page. Cost: O(prompt) array work."""
        self._now += 1
        marks = marks_of_prompt(namespace, prompt, self._page_tokens)
        self._history.note(marks, self._now)
        return marks

    def rank(self, node: Node) -> float:
        """By its count, and by the step of its last use."""
        return self._uses(int(marks_in(node)[-1])) * _ONE_USE + node.used

    def span(self, node: Node, pages: int) -> int:
        """Pages at the end that were asked for equally often."""
        marks = marks_in(node)
        return alike_at_end(pages, lambda place: self._uses(int(marks[-1 - place])))

    def _uses(self, mark: int) -> int:
        told = self._history.find(mark)
        return 0 if told is None else told.uses
