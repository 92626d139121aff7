"""Log probabilities in the two shapes of the OpenAI API."""

from msgspec import Struct, field

from infergc.client import Piece
from infergc.engine.messages import Logprobs
from infergc.text.tokenizer import Tokenizer

_LOWEST = -9999.0  # stands for minus infinity, which JSON cannot hold


class CompletionLogprobs(Struct):
    """Logprobs of a completion: parallel lists over its tokens."""

    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[dict[str, float]] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)


class TopLogprob(Struct):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct):
    """A token of a chat answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    """Logprobs of a chat answer."""

    content: list[TokenLogprob]
    refusal: None = None


class CompletionReporter:
    """Shapes the logprobs of one text; offsets count characters from its beginning."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._offset = 0

    def report(self, piece: Piece) -> CompletionLogprobs | None:
        """The logprobs that a piece adds; None where none were asked for."""
        if not piece.logprobs:
            return None
        shaped = CompletionLogprobs()
        for token, logprobs in zip(piece.tokens, piece.logprobs, strict=True):
            text = self._tokenizer.token_text(token)
            shaped.tokens.append(text)
            shaped.token_logprobs.append(_finite(logprobs.sampled))
            shaped.top_logprobs.append(self._likeliest(text, logprobs))
            shaped.text_offset.append(self._offset)
            self._offset += len(text)
        return shaped

    def _likeliest(self, sampled: str, logprobs: Logprobs) -> dict[str, float]:
        """Text → logprob, the sampled token always among them; of two tokens with one text, the likelier."""
        shaped: dict[str, float] = {}
        for token, value in zip(logprobs.top_ids, logprobs.top, strict=True):
            shaped.setdefault(self._tokenizer.token_text(token), _finite(value))
        shaped.setdefault(sampled, _finite(logprobs.sampled))
        return shaped


def chat_logprobs(piece: Piece, tokenizer: Tokenizer) -> ChatLogprobs | None:
    """The logprobs that a piece adds to a chat answer; None where none were asked for."""
    if not piece.logprobs:
        return None
    return ChatLogprobs(
        [
            TokenLogprob(
                tokenizer.token_text(token),
                _finite(logprobs.sampled),
                list(tokenizer.piece(token)),
                [
                    TopLogprob(tokenizer.token_text(other), _finite(value), list(tokenizer.piece(other)))
                    for other, value in zip(logprobs.top_ids, logprobs.top, strict=True)
                ],
            )
            for token, logprobs in zip(piece.tokens, piece.logprobs, strict=True)
        ]
    )


def _finite(value: float) -> float:
    return max(value, _LOWEST)
