"""How pieces of text become choices of an answer: completions and chat completions."""

from collections.abc import Sequence
from typing import Any, Protocol

from infergc.client import Piece
from infergc.params import SamplingParams
from infergc.server.answers.echo import PromptShape
from infergc.server.answers.logprobs import CompletionLogprobs, CompletionReporter, chat_logprobs
from infergc.server.answers.responses import ChatChoice, ChatChunkChoice, ChatDelta, ChatMessage, CompletionChoice
from infergc.text.tokenizer import Tokenizer


class Shape(Protocol):
    """One kind of answer. Belongs to one HTTP request.

    Attributes:
        prefix: of the answer's id.
        whole_object, chunk_object: the answer's ``object``, whole and streamed.
        tokenizer: which makes the text.
    """

    tokenizer: Tokenizer
    prefix: str
    whole_object: str
    chunk_object: str

    def opening(self, index: int) -> Any | None:
        """The choice of a stream's first chunk, None if it needs none."""
        ...

    def chunk(self, piece: Piece) -> Any:
        """The choice of a chunk, None if it has nothing to tell."""
        ...

    def whole(self, piece: Piece) -> Any:
        """The choice of an unstreamed answer, from all of its text as one piece."""
        ...


class CompletionShape:
    """POST /v1/completions."""

    prefix = "cmpl"
    whole_object = chunk_object = "text_completion"

    def __init__(self, tokenizer: Tokenizer, prompts: Sequence[PromptShape], params: SamplingParams) -> None:
        self.tokenizer = tokenizer
        self._prompts = [prompt for prompt in prompts for _ in range(params.n)]  # by choice
        self._skips_special_tokens = params.skip_special_tokens
        self._reporters: dict[int, CompletionReporter] = {}  # by choice: a batch without log probabilities needs none
        self._begun: set[int] = set()  # choices

    def opening(self, index: int) -> None:
        """No chunk before the first text."""

    def chunk(self, piece: Piece) -> CompletionChoice:
        """The choice of a chunk; a prompt to be echoed stands before the first text."""
        logprobs, text, prompt = self._report(piece), piece.text, self._prompts[piece.index]
        if piece.index not in self._begun:
            self._begun.add(piece.index)
            prompt.note(piece)
            text, logprobs = prompt.text + text, prompt.before(logprobs)
        return CompletionChoice(piece.index, text, logprobs, piece.finish_reason, piece.stop_reason)

    def whole(self, piece: Piece) -> CompletionChoice:
        """The choice of an unstreamed answer."""
        choice = self.chunk(piece)
        choice.prompt_logprobs = self._prompts[piece.index].logprobs()
        return choice

    def _report(self, piece: Piece) -> CompletionLogprobs | None:
        """The logprobs that a piece adds; None where none were asked for."""
        if not piece.logprobs:
            return None
        if piece.index not in self._reporters:
            begins_at, skips = len(self._prompts[piece.index].text), self._skips_special_tokens
            reporter = CompletionReporter(self.tokenizer, skip_special_tokens=skips, begins_at=begins_at)
            self._reporters[piece.index] = reporter
        return self._reporters[piece.index].report(piece)


class ChatShape:
    """POST /v1/chat/completions."""

    prefix = "chatcmpl"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def opening(self, index: int) -> ChatChunkChoice:
        """The assistant begins to speak."""
        return ChatChunkChoice(index, ChatDelta(role="assistant", content=""))

    def chunk(self, piece: Piece) -> ChatChunkChoice | None:
        """The choice of a chunk."""
        logprobs = chat_logprobs(piece, self.tokenizer)
        delta = ChatDelta(content=piece.text)
        return ChatChunkChoice(piece.index, delta, logprobs, piece.finish_reason, piece.stop_reason)

    def whole(self, piece: Piece) -> ChatChoice:
        """The choice of an unstreamed answer."""
        logprobs = chat_logprobs(piece, self.tokenizer)
        return ChatChoice(piece.index, ChatMessage(piece.text), logprobs, piece.finish_reason, piece.stop_reason)
