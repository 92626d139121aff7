"""Log probabilities in the shapes of the OpenAI API, and those of a prompt in vLLM's."""

from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from infergc.client import Piece
from infergc.engine.messages import Logprobs
from infergc.text.detokenize import IncrementalDetokenizer
from infergc.text.tokenizer import Tokenizer

_LOWEST = -9999.0  # stands for minus infinity, which JSON cannot hold


class CompletionLogprobs(Struct):
    """Logprobs of a completion: parallel lists over its tokens; null at a prompt's first, which nothing foretells."""

    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)

    def __add__(self, later: "CompletionLogprobs") -> "CompletionLogprobs":
        """Those of a text and of the one that follows it."""
        return CompletionLogprobs(
            self.tokens + later.tokens,
            self.token_logprobs + later.token_logprobs,
            self.top_logprobs + later.top_logprobs,
            self.text_offset + later.text_offset,
        )


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


class PromptLogprob(Struct):
    """A token at a position of a prompt, as vLLM reports it; rank 1 is the likeliest."""

    logprob: float
    rank: int
    decoded_token: str


class CompletionReporter:
    """Shapes the logprobs of one text as it comes.

    Args:
        tokenizer: of the model.
        skip_special_tokens: whether the text leaves them out.
        begins_at: characters of the text before the first token.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool, begins_at: int = 0) -> None:
        self._tokenizer = tokenizer
        self._text = IncrementalDetokenizer(tokenizer, skip_special_tokens=skip_special_tokens, continues=True)
        self._offset = begins_at

    def report(self, piece: Piece) -> CompletionLogprobs:
        """The logprobs that a piece adds; it has them, as they were asked for."""
        offsets: list[int] = []
        for token in piece.tokens:
            offsets.append(self._offset)
            self._offset += len(self._text.push((token,)))
        return _completion_logprobs(self._tokenizer, piece.tokens, piece.logprobs, offsets)


def echoed_logprobs(
    tokenizer: Tokenizer, text: str, ids: Sequence[int], reports: Sequence[Logprobs], count: int
) -> CompletionLogprobs:
    """The logprobs of a prompt that stands before its completion.

    Args:
        tokenizer: of the model.
        text: the prompt; it may lack what the tokenizer put before it.
        ids: [N] of the prompt.
        reports: [N - 1] all but the first token's; fewer where it ended before they were computed.
        count: likeliest tokens to show of each.
    """
    decoded, offsets = IncrementalDetokenizer(tokenizer, skip_special_tokens=False), []
    end = 0
    for token in ids:
        offsets.append(end)
        end += len(decoded.push((token,)))
    added = end + len(decoded.flush()) - len(text)
    shown = [Logprobs(each.sampled, each.rank, each.top_ids[:count], each.top[:count]) for each in reports]
    told = [None, *_all_but_first(ids, shown)]
    return _completion_logprobs(tokenizer, ids, told, [max(0, offset - added) for offset in offsets])


def prompt_logprobs(
    tokenizer: Tokenizer, ids: Sequence[int], reports: Sequence[Logprobs], count: int
) -> list[dict[str, PromptLogprob] | None]:
    """For each token of a prompt, id → how likely it and the ``count`` likeliest were.

    None for the first, and for those that were not computed before the request ended.
    """
    shaped: list[dict[str, PromptLogprob] | None] = [None]
    for token, report in zip(ids[1:], _all_but_first(ids, reports), strict=True):
        if report is None:
            shaped.append(None)
            continue
        likeliest = zip(report.top_ids[:count], report.top, strict=False)
        ranked = [(other, value, rank) for rank, (other, value) in enumerate(likeliest, 1)]
        shaped.append(
            {
                str(other): PromptLogprob(_finite(value), rank, tokenizer.token_text(other))
                for other, value, rank in (*ranked, (token, report.sampled, report.rank))
            }
        )
    return shaped


def _all_but_first(ids: Sequence[int], reports: Sequence[Logprobs]) -> list[Logprobs | None]:
    """A report for each token of a prompt but the first; None where the request ended before there was one."""
    return [*reports, *[None] * (len(ids) - 1 - len(reports))]


def _completion_logprobs(
    tokenizer: Tokenizer, tokens: Iterable[int], reports: Iterable[Logprobs | None], offsets: list[int]
) -> CompletionLogprobs:
    shaped = CompletionLogprobs(text_offset=offsets)
    for token, report in zip(tokens, reports, strict=True):
        text = tokenizer.token_text(token)
        shaped.tokens.append(text)
        shaped.token_logprobs.append(None if report is None else _finite(report.sampled))
        shaped.top_logprobs.append(None if report is None else _likeliest(tokenizer, text, report))
    return shaped


def _likeliest(tokenizer: Tokenizer, own: str, report: Logprobs) -> dict[str, float]:
    """Text → logprob, the token itself always among them; of two tokens with one text, the likelier."""
    shaped: dict[str, float] = {}
    for token, value in zip(report.top_ids, report.top, strict=True):
        shaped.setdefault(tokenizer.token_text(token), _finite(value))
    shaped.setdefault(own, _finite(report.sampled))
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
