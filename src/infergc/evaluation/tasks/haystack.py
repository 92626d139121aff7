"""The haystack: sentences that hide what is asked for, made up from a seed or taken from a text."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from infergc.evaluation.tasks.words import ADJECTIVES, NOUNS, PLACES, VERBS

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Haystack:
    """Where noise comes from.

    Attributes:
        text: its sentences in order, from a place that is drawn, and from the start again after the last; "" for
            sentences that are made up, which say nothing and hold no digit.
    """

    text: str = ""

    def holds(self, words: str) -> bool:
        """Whether the text has them by itself, so that they can be no answer."""
        return words.lower() in self.text.lower()

    def sentences(self, draw: random.Random, words: int) -> list[str]:
        """Sentences of so many words; the last one is cut where they are used up.

        Args:
            draw: chooses them; whatever ``words`` is, the sentences begin alike.
            words: to be had, ≥ 0.
        """
        found: list[str] = []
        stream = self._stream(draw)
        while words > 0:
            taken = next(stream).split()[:words]
            words -= len(taken)
            found.append(" ".join(taken))
        if found and found[-1][-1] not in ".!?":
            found[-1] += "."
        return found

    def _stream(self, draw: random.Random) -> Iterator[str]:
        sentences = [each for each in _SENTENCE_END.split(self.text) if each.split()]
        if not sentences:
            while True:
                yield _made_up(draw)
        start = draw.randrange(len(sentences))
        for at in count(start):
            yield sentences[at % len(sentences)]


def _made_up(draw: random.Random) -> str:
    subject = f"{draw.choice(ADJECTIVES)} {draw.choice(NOUNS)}"
    return f"The {subject} {draw.choice(VERBS)} {draw.choice(PLACES)}."
