"""What a task is: a context, several questions on it, and the rule by which an answer is scored."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from infergc.evaluation.tasks.haystack import Haystack

SLACK = 8  # tokens that an answer may have beside its target's: a model may begin in other words


class TaskError(ValueError):
    """A task cannot be made so; the message says why and what can be."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question on a context.

    Attributes:
        text: follows the context; it ends where the answer begins, so that a model that only continues can answer.
        answers: strings that have to be in the answer, see ``score``.
        target: the best answer as a text that follows ``text``: what a model would be trained on.
    """

    text: str
    answers: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A context and the questions that are asked on it, each apart from the others."""

    context: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a sample is made from: the same setting gives the same sample.

    Attributes:
        length: tokens, at most, of the context, the longest question and the room for its answer together.
        depth: where in the context lies what is asked for, from 0, its beginning, to 1, its end.
        seed: draws all else.
        count: tokens of a text by the tokenizer in use, none added around it.
        begin: tokens that are put before a text, and count as well.
        questions: asked on one context, at most; some tasks have fewer.
        haystack: the text that hides what is asked for.

    Raises:
        TaskError: a value is out of its bounds.
    """

    length: int
    depth: float
    seed: int | str
    count: Callable[[str], int]
    begin: int = 0
    questions: int = 3
    haystack: Haystack = field(default_factory=Haystack)

    def __post_init__(self) -> None:
        if not 0 <= self.depth <= 1:
            raise TaskError(f"a depth of {self.depth} is not allowed; it must be from 0 to 1")
        if self.questions < 1:
            raise TaskError(f"{self.questions} questions are not allowed; it must be 1 or more")

    def draw(self, name: str) -> random.Random:
        """The task's own source of chance."""
        return random.Random(f"{name}/{self.length}/{self.depth}/{self.seed}")  # noqa: S311 - repeatable, not secret


def room(question: Question, count: Callable[[str], int]) -> int:
    """Tokens that the answer may have."""
    return count(question.target) + SLACK


def score(answer: str, expected: Sequence[str]) -> float:
    """The share of the expected strings that the answer holds, whatever their case: RULER's ``string_match_all``."""
    said = answer.lower()
    return sum(each.lower() in said for each in expected) / len(expected)
