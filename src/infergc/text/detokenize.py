"""Text from tokens as they come, never half a character."""

import codecs
from collections.abc import Iterable

from infergc.text.tokenizer import Tokenizer

_decoder_of = codecs.getincrementaldecoder("utf-8")


class IncrementalDetokenizer:
    """Turns a stream of ids into a stream of text at constant cost per token.

    What ``push`` and ``flush`` return adds up to ``tokenizer.decode`` of all ids pushed.

    Args:
        tokenizer: whose ids these are.
        skip_special_tokens: leave special tokens out.
        continues: the text goes on after other text (a prompt), so a leading space stays.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True, continues: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._opened = continues
        self._utf8 = _decoder_of("replace")

    def push(self, ids: Iterable[int]) -> str:
        """The text that became certain with these ids; bytes of an unfinished character wait."""
        skipped, piece = self._skipped, self._tokenizer.piece
        if self._opened:
            data = b"".join([piece(i) for i in ids if i not in skipped])
        else:
            data, self._opened = self._tokenizer.opening([i for i in ids if i not in skipped])
        return self._utf8.decode(data) if data else ""

    def flush(self) -> str:
        """The rest at the end of the text: U+FFFD if it ends inside a character, else nothing."""
        return self._utf8.decode(b"", final=True)
