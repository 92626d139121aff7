"""What comes back of a group of requests: an iterator over news that never holds more than the requests' tokens."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

from infergc.engine.messages import Delta


class RequestStream:
    """Asynchronous iterator over the deltas of requests submitted together.

    Each step gives at most one delta a request. News that arrives while nobody reads is merged into one
    pending delta a request, so a slow reader costs no more memory than the tokens it was not yet given.
    Leaving the ``with`` block aborts what has not finished. One task reads.

    Attributes:
        waits: seconds that requests waited until they started, by the name of the first choice; as far as it is known.
    """

    def __init__(self, request_ids: Iterable[str], abort: Callable[[Iterable[str]], None]) -> None:
        self._open = set(request_ids)
        self._abort = abort
        self._pending: dict[str, Delta] = {}
        self._reader: asyncio.Future[None] | None = None  # of whoever waits for news
        self.waits: dict[str, float] = {}
        self._error: Exception | None = None

    def put(self, delta: Delta) -> None:
        """Take news from the engine; what comes of a request that was closed is nobody's."""
        if delta.request_id not in self._open:
            return
        waiting = self._pending.get(delta.request_id)
        if waiting is None:
            self._pending[delta.request_id] = delta
        else:
            absorb(waiting, delta)
        if delta.finish:
            self._open.discard(delta.request_id)
        self._wake()

    def fail(self, error: Exception) -> None:
        """No more news will come: the reader gets what is pending, then ``error``."""
        self._error = error
        self._wake()

    def close(self) -> None:
        """Abort what has not finished; the iterator ends."""
        unfinished, self._open = sorted(self._open), set()
        if unfinished and self._error is None:
            self._abort(unfinished)
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Delta]:
        while not self._pending:
            if not self._open:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        news, self._pending = self._pending, {}
        return list(news.values())

    def _wake(self) -> None:
        """An event would do; a future of one's own takes a third of its time, and this is done for every token."""
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

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
    earlier.preemptions = later.preemptions
    earlier.cumulative_logprob = later.cumulative_logprob
