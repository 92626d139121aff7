"""Mixes rows of text, conversations, repeats and recall tasks into batches, by a curriculum of lengths.

Shapes: B rows in a batch, L tokens in a row. Every row of a batch has the same L, and B·L is about constant, but that
there are FEWEST_ROWS at least.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from demo_model.corpus import Book
from demo_model.recall import Recall
from demo_model.repeats import Repeats
from demo_model.rows import Chats, Source, Texts

SHARES = {"text": 0.42, "chat": 0.18, "repeats": 0.05, "recall": 0.35}  # of the rows
FEWEST_ROWS = 2
# Share of the run until which rows have one of these lengths. Long rows are dear, and retrieval carries over to them.
CURRICULUM = {0.1: (128,), 0.25: (128, 256), 0.5: (256, 512), 0.8: (512, 1024), 1.0: (1024, 2048, 4096)}


@dataclass(frozen=True)
class Batch:
    """Token ids [B, L], int64; which of them the loss counts [B, L], bool; and each row's kind, of SHARES."""

    ids: torch.Tensor
    counted: torch.Tensor
    kinds: list[str]


class Batches:
    """Batches for every part of a run. Two of the same seed, asked at the same shares, give the same rows."""

    def __init__(self, books: list[Book], tokenizer: PreTrainedTokenizerFast, seed: int, tokens: int) -> None:
        texts = Texts(books, tokenizer)
        self.corpus_tokens = texts.tokens
        self._tokens = tokens
        self._rng = random.Random(seed)  # noqa: S311 - an order of rows is no secret
        self._sources: dict[str, Source] = {
            "text": texts,
            "chat": Chats(books, tokenizer),
            "repeats": Repeats(texts, tokenizer),
            "recall": Recall(books, tokenizer),
        }

    def draw(self, share: float) -> Batch:
        """Draw the next batch, where `share` of the run is done; each row's kind is drawn for itself."""
        length = self._rng.choice(lengths(share))
        rows = max(FEWEST_ROWS, self._tokens // length)
        kinds = self._rng.choices(list(SHARES), list(SHARES.values()), k=rows)
        drawn = [self._sources[kind].row(length, self._rng) for kind in kinds]
        return Batch(torch.tensor([row.ids for row in drawn]), torch.tensor([row.counted for row in drawn]), kinds)


def lengths(share: float) -> tuple[int, ...]:
    """Row lengths where `share` of the run is done."""
    return next(row_lengths for until, row_lengths in CURRICULUM.items() if share <= until)
