"""Rows of the recall tasks of `infergc eval`: a context, then questions on it. Only answers count in the loss."""

from __future__ import annotations

import random
from collections.abc import Iterator

from transformers import PreTrainedTokenizerFast

from demo_model.corpus import Book
from demo_model.rows import Row
from demo_model.tokenizer import encode
from infergc.evaluation.tasks import TASKS, Haystack, Sample, Setting, TaskError

# Task → share of the rows, and most questions on one context.
MIXTURE = {
    "passkey": (0.1, 3),
    "single-key": (0.1, 3),
    "multi-key": (0.3, 10),
    "copying": (0.25, 4),
    "variable-tracking": (0.25, 3),
}
QUESTION = 48  # tokens that one takes, answer and all, about
FROM_BOOKS = 0.4  # share of the contexts whose noise is text; in the others it is made up
NOISE_PARAGRAPHS = 20


class Recall:
    """Contexts with questions, none of which an evaluation asks: seeds are drawn from chance, not counted from 0."""

    def __init__(self, books: list[Book], tokenizer: PreTrainedTokenizerFast) -> None:
        self._books = books
        self._tokenizer = tokenizer
        self._sizes: dict[str, int] = {}

    def row(self, length: int, rng: random.Random) -> Row:
        """Draw a context about as long as leaves room for its questions, and ask them until the row is full."""
        row = Row()
        sample = self._sample(length, rng)
        row.add([self._tokenizer.bos_token_id, *encode(self._tokenizer, sample.context)], counted=False)
        while len(row) < length:
            for question in rng.sample(sample.questions, len(sample.questions)):
                row.add(encode(self._tokenizer, question.text), counted=False)
                row.add(encode(self._tokenizer, question.target), counted=True)
        return row.cut(length)

    def _sample(self, length: int, rng: random.Random) -> Sample:
        """Draw a task of the mixture, with fewer questions where it does not fit, longer where not even one does."""
        task = rng.choices(list(MIXTURE), [share for share, _ in MIXTURE.values()])[0]
        haystack, seed, depth = self._haystack(rng), rng.random().hex(), rng.random()
        questions = rng.randint(1, MIXTURE[task][1])
        while True:
            room = length - (questions - 1) * QUESTION
            try:
                return TASKS[task](Setting(room, depth, seed, self._count, 1, questions, haystack))
            except TaskError:
                length += QUESTION if questions == 1 else 0
                questions = max(1, questions // 2)

    def _haystack(self, rng: random.Random) -> Haystack:
        if rng.random() >= FROM_BOOKS:
            return Haystack()
        paragraphs = rng.choice(self._books).train
        start = rng.randrange(len(paragraphs))
        return Haystack(" ".join(paragraphs[start : start + NOISE_PARAGRAPHS]))

    def _count(self, text: str) -> int:
        """Count tokens word by word, from memory: samples are made by trying lengths, and encoding is slow."""
        return sum(self._size(" " + word) for word in text.split(" "))

    def _size(self, word: str) -> int:
        if word not in self._sizes:
            self._sizes[word] = len(encode(self._tokenizer, word))
        return self._sizes[word]


def examples(rng: random.Random, count: int) -> Iterator[str]:
    """Yield the texts of `count` small samples of every task, for a tokenizer to learn their words from."""
    for task in TASKS:
        for _ in range(count):
            sample = TASKS[task](Setting(300, rng.random(), rng.random().hex(), lambda text: len(text.split())))
            yield sample.context
            yield from (question.text + question.target for question in sample.questions)
