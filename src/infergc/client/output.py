"""The output of a request, or of one of its choices, as it grows: the engine's deltas in, pieces of text out."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from infergc.engine.messages import Delta, Logprobs, Submit, choice_names
from infergc.text.output import TextStream
from infergc.text.tokenizer import Tokenizer


class RequestFailedError(RuntimeError):
    """The engine gave up on a request; the message is the engine's."""


class QueueTimeoutError(RequestFailedError):
    """A request waited for longer than its ``queue_timeout`` without being started."""


@dataclass(slots=True)
class Piece:
    """News of one output.

    Attributes:
        index: of the output among those of the requests submitted together, each with its choices in order.
        text: new text; may be empty while a character or a possible stop string is unfinished.
        tokens: new ids, end tokens and those of a stop string included.
        logprobs: one per token where asked for.
        finish_reason: None while the output goes on, else "stop", "length" or "abort".
        stop_reason: the stop string or stop id that ended it.
        cumulative_logprob: the sum over all tokens, of a beam search's text, which comes as one piece.
        prompt_logprobs: where asked for, one for each token of the prompt but the first, with a first choice's first
            tokens.
    """

    index: int
    text: str
    tokens: list[int]
    logprobs: list[Logprobs] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    cumulative_logprob: float | None = None
    prompt_logprobs: list[Logprobs] = field(default_factory=list)


class Output:
    """Turns the deltas of one choice of a request into pieces, and counts its tokens.

    Attributes:
        request: what was submitted.
        choice: which of its choices this is.
        generated: tokens of the output so far.
        cached_tokens: prompt tokens whose KV was found in the prefix cache.
        pinned_tokens: prompt tokens that were pinned because the request asked for it; None if it did not.
        preemptions: how often it had to give way, as told with the last token.
        finished: whether the last piece was given. The engine may not know yet: a stop string is found
            here, and the request is then to be stopped there.
    """

    def __init__(self, request: Submit, index: int, tokenizer: Tokenizer, choice: int = 0) -> None:
        self.request = request
        self.choice = choice
        self.generated = 0
        self.cached_tokens = 0
        self.pinned_tokens: int | None = None
        self._prompt: list[Logprobs] = []
        self.preemptions = 0
        self._index = index
        self._text = TextStream(tokenizer, request.params)

    @property
    def finished(self) -> bool:
        """Whether the last piece was given."""
        return self._text.finish_reason is not None

    @property
    def finish_reason(self) -> str | None:
        """Why it ended: "stop", "length" or "abort"; None while it goes on, and where the engine gave up on it."""
        return self._text.finish_reason

    def take(self, delta: Delta) -> Piece:
        """The piece that a delta adds; an empty one if the output has ended.

        Raises:
            RequestFailedError: the engine gave up on the request; QueueTimeoutError where it waited too long.
        """
        if delta.finish == "timeout":
            raise QueueTimeoutError(delta.error)
        if delta.finish == "error":
            raise RequestFailedError(delta.error)
        self.cached_tokens = max(self.cached_tokens, delta.cached_tokens)
        self.preemptions = max(self.preemptions, delta.preemptions)
        if delta.pinned_tokens is not None:
            self.pinned_tokens = delta.pinned_tokens
        news = self._text.push(delta.tokens, delta.finish, delta.stop_id)
        self.generated += news.tokens
        self._prompt += delta.prompt_logprobs
        prompt: list[Logprobs] = []
        if news.tokens:
            prompt, self._prompt = self._prompt, prompt
        return Piece(
            self._index,
            news.text,
            delta.tokens[: news.tokens],
            delta.logprobs[: news.tokens],
            news.finish_reason,
            news.stop_reason,
            delta.cumulative_logprob,
            prompt,
        )


def outputs_of(requests: Iterable[Submit], tokenizer: Tokenizer) -> dict[str, Output]:
    """An output for each choice of each request, in order, by the name under which it is told."""
    outputs: dict[str, Output] = {}
    for request in requests:
        for choice, name in enumerate(choice_names(request.request_id, request.params.n)):
            outputs[name] = Output(request, len(outputs), tokenizer, choice)
    return outputs
