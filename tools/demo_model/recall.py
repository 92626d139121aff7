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
    """Contexts with questions, in the words of an evaluation but of no seed of its: those are whole numbers."""

    def __init__(self, books: list[Book], tokenizer: PreTrainedTokenizerFast) -> None:
        self._books = books
        self._tokenizer = tokenizer
        self._sizes: dict[str, int] = {}

    def row(self, length: int, rng: random.Random) -> Row:
        """Draw a context that leaves room for its questions, about, and ask them until the row is full; then cut it."""
        row = Row()
        sample = self._sample(length, rng)
        row.add([self._tokenizer.bos_token_id, *encode(self._tokenizer, sample.context)], counted=False)
        while len(row) < length:
            for question in rng.sample(sample.questions, len(sample.questions)):
                row.add(encode(self._tokenizer, question.text), counted=False)
                row.add(encode(self._tokenizer, question.target), counted=True)
        return row.cut(length)

    def _sample(self, length: int, rng: random.Random) -> Sample:
        """Draw a task of the mixture; where the row is too short for it, with fewer questions, then another task.

        Raises:
            TaskError: it is too short for any.
        """
        tasks = {task: share for task, (share, _) in MIXTURE.items()}
        while True:
            task = rng.choices(list(tasks), list(tasks.values()))[0]
            try:
                return self._of_task(task, length, rng)
            except TaskError:
                del tasks[task]
                if not tasks:
                    raise

    def _of_task(self, task: str, length: int, rng: random.Random) -> Sample:
        haystack, seed, depth = self._haystack(rng), rng.random().hex(), rng.random()
        questions = rng.randint(1, MIXTURE[task][1])
        while True:
            room = length - (questions - 1) * QUESTION
            try:
                return TASKS[task](Setting(room, depth, seed, self._count, 1, questions, haystack))
            except TaskError:
                if questions == 1:
                    raise
                questions //= 2

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
