"""Cuts books and conversations into token rows of mixed lengths, in an order that the seed alone decides.

Shapes: B rows in a batch, L tokens in a row. Every row of a batch has the same L, and B·L is about constant.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from demo_model.conversations import conversations
from demo_model.corpus import Book
from demo_model.tokenizer import encode, encode_chat

CHAT_SHARE = 0.3
# Row length → share of the tokens. The long rows come last and are few: attention over them is dear.
BODY_LENGTHS = {256: 0.4, 512: 0.4, 1024: 0.15, 2048: 0.05}
TAIL_LENGTHS = {512: 0.4, 1024: 0.2, 2048: 0.2, 4096: 0.2}


@dataclass(frozen=True)
class BookTokens:
    """A book's training text as one stream of token ids, and where its paragraphs begin."""

    ids: list[int]
    starts: list[int]

    def row(self, at: int, length: int, bos: int) -> list[int]:
        """Return `bos`, then `length` - 1 tokens from the last paragraph that begins at `at` or before."""
        begin = self.starts[bisect.bisect_right(self.starts, at) - 1]
        begin = max(0, min(begin, len(self.ids) - (length - 1)))
        return [bos, *self.ids[begin : begin + length - 1]]


def tokenize_book(book: Book, tokenizer: PreTrainedTokenizerFast) -> BookTokens:
    """Encode the book's training paragraphs, each followed by an empty line."""
    ids: list[int] = []
    starts: list[int] = []
    for paragraph in book.train:
        starts.append(len(ids))
        ids += encode(tokenizer, paragraph + "\n\n")
    return BookTokens(ids, starts)


class Batches:
    """Endless batches over a corpus. Two of the same seed give the same rows in the same order."""

    def __init__(self, books: list[Book], tokenizer: PreTrainedTokenizerFast, seed: int, tokens: int) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._rng = random.Random(seed)  # noqa: S311 - an order of rows is no secret
        self._streams = [tokenize_book(book, tokenizer) for book in books]
        self._chats = conversations(books, self._rng)

    @property
    def corpus_tokens(self) -> int:
        """Count of tokens in all training text, without conversations."""
        return sum(len(stream.ids) for stream in self._streams)

    def cycle(self, lengths: dict[int, float]) -> Iterator[torch.Tensor]:
        """Pass over the corpus without end, with rows of `lengths`; yields token ids [B, L], int64."""
        while True:
            plan = [group for length in lengths for group in self._groups(length, lengths)]
            self._rng.shuffle(plan)
            for cuts, length in plan:
                yield torch.tensor([self._row(cut, length) for cut in cuts])

    def _groups(self, length: int, lengths: dict[int, float]) -> list[tuple[list[tuple[int, int]], int]]:
        """Draw one pass's cuts (stream, position) for rows of `length`, shuffled and grouped by batch."""
        cuts = [
            (book, start)
            for book, stream in enumerate(self._streams)
            for start in self._positions(len(stream.ids), length, lengths[length])
        ]
        self._rng.shuffle(cuts)
        rows = max(1, self._tokens // length)
        return [(cuts[i : i + rows], length) for i in range(0, len(cuts), rows)]

    def _positions(self, stream_tokens: int, length: int, share: float) -> list[int]:
        """Space positions evenly for `share` of a stream in rows of `length`, from a random offset."""
        exact = share * stream_tokens / length
        count = int(exact) + (self._rng.random() < exact % 1)
        offset = self._rng.random()
        return [int((i + offset) * stream_tokens / count) for i in range(count)]

    def _row(self, cut: tuple[int, int], length: int) -> list[int]:
        """Fill a row of `length` tokens from a book or, in CHAT_SHARE of cases, from conversations."""
        book, start = cut
        row: list[int] = []
        if self._rng.random() >= CHAT_SHARE:
            row = self._streams[book].row(start, length, self._tokenizer.bos_token_id)
        while len(row) < length:  # also fills up where a whole book is shorter than the row
            row += encode_chat(self._tokenizer, next(self._chats))
        return row[:length]
