"""What a model is trained on, a row at a time: token ids, and which of them the loss counts."""

from __future__ import annotations

import bisect
import random
from dataclasses import dataclass, field
from typing import Protocol

from transformers import PreTrainedTokenizerFast

from demo_model.conversations import conversations
from demo_model.corpus import Book
from demo_model.tokenizer import encode, encode_chat


@dataclass
class Row:
    """Token ids; `counted` says of each whether predicting it counts in the loss."""

    ids: list[int] = field(default_factory=list)
    counted: list[bool] = field(default_factory=list)

    def add(self, ids: list[int], *, counted: bool) -> None:
        """Put tokens behind those that are there."""
        self.ids += ids
        self.counted += [counted] * len(ids)

    def cut(self, length: int) -> Row:
        """Return the first `length` tokens."""
        return Row(self.ids[:length], self.counted[:length])

    def __len__(self) -> int:
        """Count the tokens."""
        return len(self.ids)


class Source(Protocol):
    """Where rows of one kind come from."""

    def row(self, length: int, rng: random.Random) -> Row:
        """Draw a row of exactly `length` tokens that begins with `<|bos|>`."""
        ...


@dataclass(frozen=True)
class Stream:
    """A book's training text as one stream of token ids, and where its paragraphs begin."""

    ids: list[int]
    starts: list[int]


def stream(book: Book, tokenizer: PreTrainedTokenizerFast) -> Stream:
    """Encode the book's training paragraphs, each followed by an empty line."""
    ids: list[int] = []
    starts: list[int] = []
    for paragraph in book.train:
        starts.append(len(ids))
        ids += encode(tokenizer, paragraph + "\n\n")
    return Stream(ids, starts)


class Texts:
    """Passages of the books, each from the beginning of a paragraph, or up to a book's end; of long books more."""

    def __init__(self, books: list[Book], tokenizer: PreTrainedTokenizerFast) -> None:
        self._streams = [stream(book, tokenizer) for book in books]
        self._bos = tokenizer.bos_token_id

    @property
    def tokens(self) -> int:
        """Count of tokens in all training text."""
        return sum(len(stream.ids) for stream in self._streams)

    def row(self, length: int, rng: random.Random) -> Row:
        """Draw a passage; one of a book that is too short is followed by others."""
        row = Row()
        row.add([self._bos], counted=False)
        while len(row) < length:
            row.add(self.passage(length - len(row), rng), counted=True)
        return row

    def passage(self, length: int, rng: random.Random) -> list[int]:
        """Draw `length` tokens, or a whole book if that has fewer."""
        drawn = rng.choices(self._streams, [len(stream.ids) for stream in self._streams])[0]
        at = bisect.bisect_right(drawn.starts, rng.randrange(len(drawn.ids))) - 1
        begin = max(0, min(drawn.starts[at], len(drawn.ids) - length))
        return drawn.ids[begin : begin + length]


class Chats:
    """Conversations made out of the books, one behind the other."""

    def __init__(self, books: list[Book], tokenizer: PreTrainedTokenizerFast) -> None:
        self._books = books
        self._tokenizer = tokenizer

    def row(self, length: int, rng: random.Random) -> Row:
        """Draw conversations until the row is full; the last one is cut."""
        row, chats = Row(), conversations(self._books, rng)
        while len(row) < length:
            row.add(encode_chat(self._tokenizer, next(chats)), counted=True)
        return row.cut(length)
