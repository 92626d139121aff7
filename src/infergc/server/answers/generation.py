"""The engine requests behind one HTTP request."""

from dataclasses import dataclass
from http import HTTPStatus

from infergc.client import Piece, QueueTimeoutError, RequestFailedError, outputs_of
from infergc.engine.messages import Delta, Submit
from infergc.params import SamplingParams
from infergc.server.answers.responses import Usage
from infergc.server.entrance.line import QUEUE_TIMEOUT, Place
from infergc.server.errors import ApiError
from infergc.server.metrics import Stopwatch
from infergc.server.service import Service
from infergc.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the engine requests behind one HTTP request; times in seconds, None where none passed.

    Attributes:
        params: of the first of them.
        usage: tokens over all.
        finish_reasons: of each choice in order, None of one that did not come to its end.
        queued: the longest wait of one for its start in the engine.
        first: from the request's arrival to the first token of any choice.
        between: mean time between tokens of a choice.
        longest: the longest time that nothing came of a choice after its first token.
        preemptions: how often choices had to give way.
    """

    params: SamplingParams
    usage: Usage
    finish_reasons: list[str | None]
    queued: float | None
    first: float | None
    between: float | None
    longest: float | None
    preemptions: int


class Generation:
    """Runs requests and gives their news as pieces of text; ``close`` aborts what has not finished.

    Args:
        requests: started at once; a piece's index is its place among these and their choices, in order.
        tokenizer: makes their text.
        arrival: ``time.perf_counter()`` when the HTTP request came.
        place: in the line.
        prompt_only: what is generated is not told, nor counted.

    Raises:
        EngineDeadError: there is no engine.
    """

    def __init__(
        self,
        service: Service,
        requests: list[Submit],
        tokenizer: Tokenizer,
        arrival: float,
        place: Place,
        *,
        prompt_only: bool = False,
    ) -> None:
        self._prompt_only = prompt_only
        self._client = service.client
        self._sessions = service.sessions
        self._place = place
        self._outputs = outputs_of(requests, tokenizer)
        for request in requests:
            service.latencies.prompt.observe(len(request.prompt))
        self._watches = {name: Stopwatch(service.latencies, arrival) for name in self._outputs}
        self._patience = _patience(requests[0].queue_timeout, service.settings.queue_timeout)
        self._stream = service.client.submit(*requests)
        self._unfinished = len(self._outputs)
        self._first: list[Piece] = []

    async def begin(self) -> None:
        """Wait for the first news: what goes wrong before it can still be told by the HTTP status."""
        self._first = await self.news()

    async def news(self) -> list[Piece]:
        """The next step's pieces, in order; none when every request has finished.

        Raises:
            EngineDeadError: the engine died.
            ApiError: 503, the engine gave up on a request, or did not come to it in time.
        """
        pieces, self._first = self._first, []
        while self._unfinished and not pieces:
            pieces = self._pieces(await anext(self._stream))
        return pieces

    def usage(self) -> Usage:
        """Tokens so far, over all requests; a prompt counts once, whatever its choices."""
        outputs = self._outputs.values()
        firsts = [output for output in outputs if output.choice == 0]
        pinned = [output.pinned_tokens for output in firsts if output.pinned_tokens is not None]
        return Usage.of(
            prompt=sum(len(output.request.prompt) for output in firsts),
            completion=0 if self._prompt_only else sum(output.generated for output in outputs),
            cached=sum(output.cached_tokens for output in firsts),
            pinned=sum(pinned) if pinned else None,
        )

    def report(self) -> Report:
        """What became of it so far."""
        outputs, watches = self._outputs.values(), self._watches.values()
        gaps = sum(watch.gaps for watch in watches)
        return Report(
            params=next(iter(outputs)).request.params,
            usage=self.usage(),
            finish_reasons=[output.finish_reason for output in outputs],
            queued=max(self._stream.waits.values(), default=None),
            first=min((watch.first for watch in watches if watch.first is not None), default=None),
            between=sum(watch.span for watch in watches) / gaps if gaps else None,
            longest=max(watch.longest for watch in watches) if gaps else None,
            preemptions=sum(output.preemptions for output in outputs),
        )

    def close(self) -> None:
        """Abort what has not finished: its session was used until now. Harmless when repeated."""
        self._stream.close()
        for output in self._outputs.values():
            if not output.finished:
                self._sessions.touch(output.request.salt, output.request.session)

    def _pieces(self, deltas: list[Delta]) -> list[Piece]:
        try:
            return [self._take(delta) for delta in deltas if not self._outputs[delta.request_id].finished]
        except QueueTimeoutError as error:
            headers = self._place.time_out()
            message = f"the request was not started in time: {error} ({self._patience}); "
            message += f"try again in {headers['retry-after']} s"
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code=QUEUE_TIMEOUT, headers=headers) from error
        except RequestFailedError as error:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), code="request_failed") from error

    def _take(self, delta: Delta) -> Piece:
        name, watch = delta.request_id, self._watches[delta.request_id]
        piece = self._outputs[name].take(delta)
        watch.tokens(len(piece.tokens))
        if piece.finish_reason is not None:
            self._unfinished -= 1
            watch.finished(piece.finish_reason)
            request = self._outputs[name].request
            self._sessions.touch(request.salt, request.session)
            if not delta.finish:
                self._client.stop(name)  # a stop string in the text: the engine does not know yet
        return _without_text(piece) if self._prompt_only else piece


def _patience(seconds: int | None, most: int | None) -> str:
    """How long requests wait at most, and who says so."""
    return f"{seconds} s, {'--queue-timeout' if seconds == most else 'its queue_timeout'}"


def _without_text(piece: Piece) -> Piece:
    """What ends the token that nobody wanted is no matter; that it was not even computed is."""
    finish = piece.finish_reason if piece.finish_reason in {None, "abort"} else "length"
    return Piece(piece.index, "", [], finish_reason=finish, prompt_logprobs=piece.prompt_logprobs)
