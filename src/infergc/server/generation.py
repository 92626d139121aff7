"""The engine requests behind one HTTP request."""

from collections.abc import AsyncIterator
from http import HTTPStatus

from infergc.client import Output, Piece, RequestFailedError
from infergc.engine.messages import Submit
from infergc.server.errors import ApiError
from infergc.server.metrics import Stopwatch
from infergc.server.responses import Usage
from infergc.server.service import Service


class Generation:
    """Runs requests and gives their news as pieces of text; ``close`` aborts what has not finished.

    Args:
        requests: started at once; a piece's index is its request's place here.
        arrival: ``time.perf_counter()`` when the HTTP request came.

    Raises:
        EngineDeadError: there is no engine.
    """

    def __init__(self, service: Service, requests: list[Submit], arrival: float) -> None:
        self._client = service.client
        self._sessions = service.sessions
        self._outputs = {
            request.request_id: Output(request, index, service.tokenizer) for index, request in enumerate(requests)
        }
        self._watches = {name: Stopwatch(service.latencies, arrival) for name in self._outputs}
        self._stream = service.client.submit(*requests)
        self._first: list[Piece] = []

    async def begin(self) -> None:
        """Wait for the first news: what goes wrong before it can still be told by the HTTP status."""
        self._first = await self._next()

    async def pieces(self) -> AsyncIterator[Piece]:
        """All pieces, in order, until every request has finished.

        Raises:
            EngineDeadError: the engine died.
            ApiError: 503, the engine gave up on a request.
        """
        while news := self._first or await self._next():
            self._first = []
            for piece in news:
                yield piece

    def usage(self) -> Usage:
        """Tokens so far, over all requests."""
        outputs = self._outputs.values()
        return Usage.of(
            prompt=sum(len(output.request.prompt) for output in outputs),
            completion=sum(output.generated for output in outputs),
            cached=sum(output.cached_tokens for output in outputs),
        )

    def close(self) -> None:
        """Abort what has not finished. Harmless when repeated."""
        self._stream.close()

    async def _next(self) -> list[Piece]:
        """The next step's pieces; none when all requests have finished."""
        while not all(output.finished for output in self._outputs.values()):
            deltas = await anext(self._stream)
            try:
                pieces = [self._take(delta.request_id, self._outputs[delta.request_id].take(delta)) for delta in deltas]
            except RequestFailedError as error:
                raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), code="request_failed") from error
            if news := [piece for piece in pieces if piece is not None]:
                return news
        return []

    def _take(self, request_id: str, piece: Piece) -> Piece | None:
        watch = self._watches[request_id]
        watch.tokens(len(piece.tokens))
        if piece.finish_reason is not None:
            watch.finished(piece.finish_reason)
            request = self._outputs[request_id].request
            self._sessions.touch(request.salt, request.session)
            self._client.abort(request_id)  # a stop string in the text: the engine does not know yet
        return piece
