"""Requests in the order that a policy gives them."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Protocol

from infergc.sched.request import Request

Key = tuple[int, ...]


class Ordering(Protocol):
    """Who goes first.

    ``follows_cache`` says whether keys depend on ``Request.at_hand``: it changes through ``RequestQueue.rekey`` alone.
    """

    @property
    def follows_cache(self) -> bool:
        """Whether the order is by what is cached."""
        ...

    def key(self, request: Request) -> Key:
        """Smaller goes first. It must not change while the request is queued, and no two may be equal."""
        ...


class RequestQueue:
    """A sorted list of requests. Adding and removing cost O(log n) compares and a memmove."""

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering
        self._entries: list[tuple[Key, Request]] = []
        self._turn = 0

    def add(self, request: Request) -> None:
        """Put a request in its place."""
        insort(self._entries, (self._ordering.key(request), request), key=lambda entry: entry[0])

    def remove(self, request: Request) -> None:
        """Take a request out."""
        del self._entries[self._index(request)]

    def rekey(self, request: Request, at_hand: int) -> None:
        """Put a queued request where so much of it at hand lets it stand."""
        if at_hand != request.at_hand:
            self.remove(request)
            request.at_hand = at_hand
            self.add(request)

    def some(self, ahead: int, behind: int) -> list[Request]:
        """Those next to go, and some of the others: all of them in turn, call by call."""
        rest = self._entries[ahead:]
        start = self._turn if self._turn < len(rest) else 0
        self._turn = start + behind
        return [request for _, request in self._entries[:ahead] + rest[start : start + behind]]

    def first(self) -> Request | None:
        """The request that goes first, None if there is none."""
        return self._entries[0][1] if self._entries else None

    def __iter__(self) -> Iterator[Request]:
        return (request for _, request in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _index(self, request: Request) -> int:
        at = bisect_left(self._entries, self._ordering.key(request), key=lambda entry: entry[0])
        assert self._entries[at][1] is request, f"request {request.id} is not queued"
        return at
