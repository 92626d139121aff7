"""What the choices of a completion say of their prompt: its text and its tokens' log probabilities, where asked for."""

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from infergc.client import Piece
from infergc.engine.messages import Logprobs, Submit
from infergc.server.answers.logprobs import CompletionLogprobs, PromptLogprob, echoed_logprobs, prompt_logprobs
from infergc.server.requests.types import CompletionRequest
from infergc.text.tokenizer import Tokenizer


class PromptShape:
    """One prompt in an answer. Its first choice brings what is known of it, before the others have begun.

    Args:
        tokenizer: of the model.
        body: the request.
        text: what stands before each choice's own text: "" without ``echo``.
        submit: what became of it.

    Attributes:
        text: see above.
    """

    def __init__(self, tokenizer: Tokenizer, body: CompletionRequest, text: str, submit: Submit) -> None:
        self._tokenizer = tokenizer
        self._ids = submit.prompt
        self._echoed = body.logprobs if body.echo else None
        self._asked = body.prompt_logprobs
        self.text = text
        self._reports: Sequence[Logprobs] = ()
        self._shaped: CompletionLogprobs | None = None

    def note(self, piece: Piece) -> None:
        """Keep what a piece tells of the prompt."""
        if piece.prompt_logprobs:
            self._reports = piece.prompt_logprobs

    def before(self, logprobs: CompletionLogprobs | None) -> CompletionLogprobs | None:
        """Put the prompt's before a choice's first log probabilities."""
        if self._echoed is None:
            return logprobs
        if self._shaped is None:
            self._shaped = echoed_logprobs(self._tokenizer, self.text, self._ids, self._reports, self._echoed)
        return self._shaped if logprobs is None else self._shaped + logprobs

    def logprobs(self) -> list[dict[str, PromptLogprob] | None] | UnsetType:
        """Those that the field ``prompt_logprobs`` asks for."""
        if self._asked is None:
            return UNSET
        return prompt_logprobs(self._tokenizer, self._ids, self._reports, self._asked)


def echoed(tokenizer: Tokenizer, prompt: str | list[int]) -> str:
    """A prompt as text: as it was given, or of its ids with special tokens in it."""
    return prompt if isinstance(prompt, str) else tokenizer.decode(prompt, skip_special_tokens=False)
