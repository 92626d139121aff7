"""What comes back of a group of requests: an iterator over news that never holds more than the requests' tokens."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

from infergc.engine.messages import Delta


class RequestStream:
    """Asynchronous iterator over the deltas of requests submitted together.

    Each step gives at most one delta a request. News that arrives while nobody reads is merged into one
    pending delta a request, so a slow reader costs no more memory than the tokens it was not yet given.
    Leaving the ``with`` block aborts what has not finished.
    """

    def __init__(self, request_ids: Iterable[str], abort: Callable[[Iterable[str]], None]) -> None:
        self._open = set(request_ids)
        self._abort = abort
        self._pending: dict[str, Delta] = {}
        self._arrived = asyncio.Event()
        self._error: Exception | None = None

    def put(self, delta: Delta) -> None:
        """Take news from the engine; what comes of a request that was closed is nobody's."""
        if delta.request_id not in self._open:
            return
        waiting = self._pending.setdefault(delta.request_id, delta)
        if waiting is not delta:
            absorb(waiting, delta)
        if delta.finish:
            self._open.discard(delta.request_id)
        self._arrived.set()

    def fail(self, error: Exception) -> None:
        """No more news will come: the reader gets what is pending, then ``error``."""
        self._error = error
        self._arrived.set()

    def close(self) -> None:
        """Abort what has not finished; the iterator ends."""
        unfinished, self._open = sorted(self._open), set()
        if unfinished and self._error is None:
            self._abort(unfinished)
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Delta]:
        while not self._pending:
            if not self._open:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        news, self._pending = self._pending, {}
        return list(news.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def absorb(earlier: Delta, later: Delta) -> None:
    """Add the later delta of a request to an earlier one."""
    earlier.tokens += later.tokens
    earlier.logprobs += later.logprobs
    earlier.prompt_logprobs += later.prompt_logprobs
    earlier.cached_tokens = max(earlier.cached_tokens, later.cached_tokens)
    earlier.finish, earlier.stop_id, earlier.error = later.finish, later.stop_id, later.error
    earlier.cumulative_logprob = later.cumulative_logprob
