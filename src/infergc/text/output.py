"""One request's output text: tokens in, deltas of text out, cut at stop strings."""

from collections.abc import Sequence
from dataclasses import dataclass

from infergc.params import SamplingParams
from infergc.text.detokenize import IncrementalDetokenizer
from infergc.text.stops import StopScanner
from infergc.text.tokenizer import Tokenizer


@dataclass(slots=True)
class TextDelta:
    """News of a text.

    Attributes:
        text: what is new; may be empty while a character or a possible stop string is unfinished.
        tokens: how many of the ids just pushed belong to the output: all, unless a stop string ended it
            before the last.
        finish_reason: None while the text goes on, else the engine's reason, or "stop" for a stop string.
        stop_reason: the stop string or stop id that ended it.
    """

    text: str
    tokens: int
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class TextStream:
    """Joins the detokeniser and the stop strings of one request.

    Args:
        tokenizer: of the model.
        params: the request's.
    """

    def __init__(self, tokenizer: Tokenizer, params: SamplingParams) -> None:
        self._params = params
        self._detokenizer = IncrementalDetokenizer(
            tokenizer, skip_special_tokens=params.skip_special_tokens, continues=True
        )
        self._scanner = StopScanner(params.stop, include=params.include_stop_str_in_output)
        self._seen = 0  # tokens of the output so far
        self.finish_reason: str | None = None

    def push(self, token_ids: Sequence[int], finish: str = "", stop_id: int | None = None) -> TextDelta:
        """Take an engine's delta: new ids, why the request finished ("" if it did not), and the stop id.

        A finish of "stop" means that the last id is an end token or stop id: it counts as a token, and its
        own text is left out unless ``include_stop_str_in_output``. When the delta says "stop" for a stop
        string, the caller stops the request in the engine; what still comes for it is ignored here.
        """
        if self.finish_reason is not None:
            return TextDelta("", 0, self.finish_reason)
        text, used, stop = self._scan(token_ids, finish)
        if stop is None and finish:
            last, stop = self._scanner.push(self._detokenizer.flush())
            text += last + (self._scanner.flush() if stop is None else "")
        self._seen += used
        self.finish_reason = "stop" if stop is not None else finish or None
        return TextDelta(text, used, self.finish_reason, stop_id if stop is None else stop)

    def _scan(self, token_ids: Sequence[int], finish: str) -> tuple[str, int, str | None]:
        """Text of the ids up to the first stop string, how many ids that took, and the string."""
        hidden = finish == "stop" and not self._params.include_stop_str_in_output
        shown = token_ids[:-1] if hidden else token_ids
        if not self._params.stop:
            return self._detokenizer.push(shown), len(token_ids), None
        text = ""
        for count, token in enumerate(shown, 1):
            armed = self._seen + count > self._params.min_tokens
            part, stop = self._scanner.push(self._detokenizer.push((token,)), armed=armed)
            text += part
            if stop is not None:
                return text, count, stop
        return text, len(token_ids), None
