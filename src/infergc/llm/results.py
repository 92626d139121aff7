"""Results of the offline API, named and shaped as in vLLM's."""

from dataclasses import dataclass, field
from typing import Any

from infergc.client import Output, Piece
from infergc.engine.messages import Logprobs
from infergc.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Logprob:
    """Log probability of a token at a position; rank 1 is the likeliest, None is unknown."""

    logprob: float
    rank: int | None
    decoded_token: str


@dataclass(slots=True)
class CompletionOutput:
    """One generated text.

    Attributes:
        index: of the text among those of its prompt.
        text: without the end token or the stop string, unless that was asked for.
        token_ids: what was generated, end token included.
        cumulative_logprob: sum over the tokens; None unless logprobs were asked for.
        logprobs: for each token, id → Logprob of the likeliest ones and of the token itself.
        finish_reason: "stop", "length" or "abort".
        stop_reason: the stop string or stop id that ended it; None for an end token or a limit.
    """

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


@dataclass(slots=True)
class RequestOutput:
    """What came of one prompt; ``prompt`` is None if it was given as ids."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = False
    num_cached_tokens: int = 0
    prompt_logprobs: None = None
    metrics: dict[str, Any] | None = None


class ResultBuilder:
    """Gathers the pieces of one request."""

    def __init__(self, prompt: str | None, output: Output, tokenizer: Tokenizer) -> None:
        self._output = output
        self._tokenizer = tokenizer
        self._text: list[str] = []
        self._completion = CompletionOutput(index=0)
        if output.request.params.logprobs is not None:
            self._completion.logprobs = []
            self._completion.cumulative_logprob = 0.0
        request = output.request
        self.result = RequestOutput(request.request_id, prompt, request.prompt, [self._completion])

    def add(self, piece: Piece) -> None:
        """Take news; the result is complete once the piece with a finish reason was taken."""
        done = self._completion
        self._text.append(piece.text)
        done.token_ids += piece.tokens
        for token, report in zip(piece.tokens, piece.logprobs, strict=False):
            self._add_logprobs(token, report)
        if piece.finish_reason is not None:
            done.text = "".join(self._text)
            done.finish_reason, done.stop_reason = piece.finish_reason, piece.stop_reason
            self.result.num_cached_tokens = self._output.cached_tokens
            self.result.finished = True

    def _add_logprobs(self, token: int, report: Logprobs) -> None:
        done = self._completion
        if done.logprobs is None or done.cumulative_logprob is None:
            return
        name = self._tokenizer.token_text
        likeliest = zip(report.top_ids, report.top, strict=True)
        entries = {other: Logprob(value, rank, name(other)) for rank, (other, value) in enumerate(likeliest, 1)}
        entries[token] = Logprob(report.sampled, report.rank, name(token))
        done.logprobs.append(entries)
        done.cumulative_logprob += report.sampled
