"""Results of the offline API, named and shaped as in vLLM's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from infergc.client import Output, Piece
from infergc.engine.messages import Logprobs, Submit
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
        cumulative_logprob: sum over the tokens, of a beam search's text; otherwise None unless logprobs were
            asked for.
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
    """What came of one prompt; ``prompt`` is None if it was given as ids.

    ``num_pinned_tokens`` is None where no pin was asked for, and 0 where the pin budget had no room. ``outputs`` are in
    order of their index; those of a beam search from the best score to the worst. ``prompt_logprobs``, where asked for,
    has id → Logprob for each token of the prompt, of the likeliest ones and of itself; None for the first.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = False
    num_cached_tokens: int = 0
    num_pinned_tokens: int | None = None
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    metrics: dict[str, Any] | None = None


class ResultBuilder:
    """Gathers the pieces of one request's choices."""

    def __init__(self, prompt: str | None, request: Submit, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._texts: list[list[str]] = [[] for _ in range(request.params.n)]
        wants = request.params.logprobs is not None
        outputs = [
            CompletionOutput(index, logprobs=[] if wants else None, cumulative_logprob=0.0 if wants else None)
            for index in range(request.params.n)
        ]
        self.result = RequestOutput(request.request_id, prompt, request.prompt, outputs)
        if request.params.prompt_logprobs is not None:
            self.result.prompt_logprobs = [None]  # nothing foretells the first token

    def add(self, output: Output, piece: Piece) -> None:
        """Take news of a choice; the result is complete once each choice's piece with a finish reason was taken."""
        done = self.result.outputs[output.choice]
        self._texts[output.choice].append(piece.text)
        done.token_ids += piece.tokens
        self._add_prompt(piece.prompt_logprobs)
        for token, report in zip(piece.tokens, piece.logprobs, strict=False):
            self._add_logprobs(done, token, report)
        if piece.finish_reason is not None:
            done.text = "".join(self._texts[output.choice])
            done.finish_reason, done.stop_reason = piece.finish_reason, piece.stop_reason
            if piece.cumulative_logprob is not None:
                done.cumulative_logprob = piece.cumulative_logprob
            self.result.num_cached_tokens = max(self.result.num_cached_tokens, output.cached_tokens)
            if output.pinned_tokens is not None:
                self.result.num_pinned_tokens = output.pinned_tokens
            self.result.finished = all(one.finish_reason is not None for one in self.result.outputs)

    def _add_prompt(self, reports: Sequence[Logprobs]) -> None:
        if self.result.prompt_logprobs is not None:
            first = len(self.result.prompt_logprobs)
            following = self.result.prompt_token_ids[first:]
            self.result.prompt_logprobs += map(self._entries, following, reports)

    def _add_logprobs(self, done: CompletionOutput, token: int, report: Logprobs) -> None:
        if done.logprobs is None or done.cumulative_logprob is None:
            return
        done.logprobs.append(self._entries(token, report))
        done.cumulative_logprob += report.sampled

    def _entries(self, token: int, report: Logprobs) -> dict[int, Logprob]:
        """The likeliest tokens at a place, and the one that stands there."""
        name = self._tokenizer.token_text
        likeliest = zip(report.top_ids, report.top, strict=True)
        entries = {other: Logprob(value, rank, name(other)) for rank, (other, value) in enumerate(likeliest, 1)}
        entries[token] = Logprob(report.sampled, report.rank, name(token))
        return entries
