"""What became of each page: under ``--heap-debug``, who wrote it last, where it was freed and handed out."""

import inspect
from collections.abc import Iterable
from types import FrameType

from infergc.heap.groups import GroupSpec
from infergc.heap.moves import Move

_KEPT = 6  # events kept of a page: what one step does to it, and the life before
_DEPTH = 4  # callers named in a place
_INNER = tuple(f"infergc.heap.{name}" for name in ("journal", "watched", "pages", "space", "graph"))
_HOLDINGS = "infergc.heap.holdings"  # its private functions are the way, not the place

Event = tuple[str, int, str]  # what happened, in which step's planning, where or by whom


class PageJournal:
    """Notes what happens to pages, and asks storage to poison what is freed and to check what is handed out.

    ``moves`` is the heap's own list, so that these requests stand among its copies in the order of events. That
    order is all that is needed: moves of a plan are made before its step runs and after every step planned before,
    and no such step reads a page that was freed (law 5). A page that is freed twice and handed out between is
    poisoned, checked and poisoned; a copy into a page that is freed again is made and then poisoned.

    Cost: some microseconds an event, a few hundred bytes a page.
    """

    def __init__(self, groups: tuple[GroupSpec, ...], page_tokens: int) -> None:
        self.moves: list[Move] = []
        self.step = 0  # the step being planned
        self._groups = groups
        self._page_tokens = page_tokens
        self._past: tuple[dict[int, tuple[Event, ...]], ...] = tuple({} for _ in groups)

    def freed(self, group: int, first: int, pages: int) -> None:
        """Nothing counts these adjacent pages any longer."""
        self._note(group, range(first, first + pages), ("freed", self.step, _place()))
        self.moves.append(Move("poison", group, first, first + pages - 1, self._page_tokens))

    def taken(self, group: int, first: int, pages: int) -> None:
        """These adjacent pages were handed out."""
        self._note(group, range(first, first + pages), ("handed out", self.step, _place()))
        self.moves.append(Move("check", group, first, first + pages - 1, self._page_tokens))

    def written(self, group: int, pages: Iterable[int], step: int, owner: str) -> None:
        """The step writes to these pages, for this request."""
        past = self._past[group]
        for page in pages:
            events = past.get(page, ())
            if events and events[-1][::2] == ("written", owner):
                events = events[:-1]
            past[page] = (*events[1 - _KEPT :], ("written", step, owner))

    def tell(self, group: int, page: int) -> str:
        """What became of the page, the latest first, for people."""
        events = self._past[group].get(page, ())
        told = [f"{what} in step {step} by {who}" for what, step, who in reversed(events)]
        return f"page {page} of group {self._groups[group].name}: {', '.join(told) or 'never handed out'}"

    def _note(self, group: int, pages: Iterable[int], event: Event) -> None:
        past = self._past[group]
        for page in pages:
            past[page] = (*past.get(page, ())[1 - _KEPT :], event)


def _place() -> str:
    """The calls that led here, innermost first, without those that every page goes through."""
    names: list[str] = []
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and len(names) < _DEPTH:
        module, code = frame.f_globals.get("__name__"), frame.f_code
        if module not in _INNER and not (module == _HOLDINGS and code.co_name.startswith("_")):
            names.append(code.co_qualname)
        frame = frame.f_back
    return " < ".join(names)
