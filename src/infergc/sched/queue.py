"""Requests in the order that a policy gives them."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Protocol

from infergc.sched.request import Request

Key = tuple[int, ...]


class Ordering(Protocol):
    """Who goes first."""

    def key(self, request: Request) -> Key:
        """Smaller goes first. It must not change while the request is queued, and no two may be equal."""
        ...


class RequestQueue:
    """A sorted list of requests. Adding and removing cost O(log n) compares and a memmove."""

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering
        self._entries: list[tuple[Key, Request]] = []

    def add(self, request: Request) -> None:
        """Put a request in its place."""
        insort(self._entries, (self._ordering.key(request), request), key=lambda entry: entry[0])

    def remove(self, request: Request) -> None:
        """Take a request out."""
        del self._entries[self._index(request)]

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
