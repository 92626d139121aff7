"""Rows in which a span of tokens is said twice, so that copying is learnt for all tokens and not for a task's words."""

from __future__ import annotations

import random

from transformers import PreTrainedTokenizerFast

from demo_model.rows import Row, Texts
from demo_model.tokenizer import SPECIAL_TOKENS

SHORTEST, LONGEST = 4, 120  # tokens of a span
FARTHEST = 200  # tokens between the two
FEWEST, MOST = 6, 40  # tokens that a span is made of, where they are few: a match of one says little then


class Repeats:
    """Spans of random tokens, of few tokens in random order, or of text. Only the second saying counts."""

    def __init__(self, texts: Texts, tokenizer: PreTrainedTokenizerFast) -> None:
        self._texts = texts
        self._bos = tokenizer.bos_token_id
        self._ids = range(len(SPECIAL_TOKENS), len(tokenizer))

    def row(self, length: int, rng: random.Random) -> Row:
        """Draw spans, each said twice, at once or after other tokens, until the row is full."""
        row = Row()
        row.add([self._bos], counted=False)
        while len(row) < length:
            span = self._span(rng.randint(SHORTEST, max(SHORTEST, min(LONGEST, length // 3))), rng)
            between = rng.choice((0, rng.randint(1, max(1, min(FARTHEST, length // 3)))))
            row.add([*span, *rng.choices(self._ids, k=between), span[0]], counted=False)
            row.add(span[1:], counted=True)
        return row.cut(length)

    def _span(self, length: int, rng: random.Random) -> list[int]:
        few = rng.choices(self._ids, k=rng.randint(FEWEST, MOST))
        return rng.choice(
            (rng.choices(self._ids, k=length), rng.choices(few, k=length), self._texts.passage(length, rng))
        )
