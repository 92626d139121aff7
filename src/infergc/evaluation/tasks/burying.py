"""Burying: needles are put into a haystack of sentences, as long as the setting allows."""

import random
from collections.abc import Callable, Sequence

from infergc.evaluation.tasks.haystack import Haystack
from infergc.evaluation.tasks.task import Question, Sample, Setting, TaskError, room
from infergc.evaluation.tasks.words import ADJECTIVES, NOUNS

Needle = tuple[float, str]  # depth, from 0 to 1, and text


def bury(name: str, setting: Setting, needles: Sequence[Needle], questions: Sequence[Question]) -> Sample:
    """The needles in as much of the haystack as fits.

    Raises:
        TaskError: not even the needles fit.
    """

    def build(words: int) -> Sample:
        sentences = setting.haystack.sentences(setting.draw(f"{name}, noise"), words)
        return Sample(" ".join(placed(sentences, needles)), tuple(questions))

    return largest(name, setting, build, setting.length)


def placed(sentences: Sequence[str], needles: Sequence[Needle]) -> list[str]:
    """The sentences with each needle before the one at its depth; needles of one depth in the order given."""
    pieces = list(sentences)
    for before, (depth, text) in enumerate(sorted(needles, key=lambda needle: needle[0])):
        pieces.insert(before + round(depth * len(sentences)), text)
    return pieces


def largest(name: str, setting: Setting, build: Callable[[int], Sample], most: int) -> Sample:
    """What ``build`` makes of the largest number, from 0 to ``most``, that gives a sample within the length.

    Raises:
        TaskError: 0 gives one that is too long.
    """
    best = build(0)
    if (least := size(best, setting)) > setting.length:
        raise TaskError(f"{name}: {setting.length} tokens are too few; with {least} and more it can be made")
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        tried = build(middle)
        if size(tried, setting) <= setting.length:
            low, best = middle, tried
        else:
            high = middle - 1
    return best


def size(sample: Sample, setting: Setting) -> int:
    """Tokens of the context, the longest question and the room for its answer."""
    count = setting.count
    asked = max(count(each.text) + room(each, count) for each in sample.questions)
    return setting.begin + count(sample.context) + asked


def number(draw: random.Random, digits: int, haystack: Haystack) -> str:
    """A number that the haystack does not have."""
    while True:
        drawn = str(draw.randrange(10 ** (digits - 1), 10**digits))
        if not haystack.holds(drawn):
            return drawn


def numbers(draw: random.Random, many: int, digits: int, haystack: Haystack) -> list[str]:
    """So many, no two alike."""
    found: dict[str, None] = {}
    while len(found) < many:
        found[number(draw, digits, haystack)] = None
    return list(found)


def keys(draw: random.Random, many: int) -> list[str]:
    """Two-word names, no two alike; as many as there are, if those are fewer. Nouns come again as late as they can."""
    nouns, adjectives = draw.sample(NOUNS, len(NOUNS)), draw.sample(ADJECTIVES, len(ADJECTIVES))
    turns = [[(adjectives[(turn + at) % len(adjectives)], noun) for at, noun in enumerate(nouns)]
             for turn in range(min(len(adjectives), many // len(nouns) + 1))]  # fmt: skip
    return [f"{adjective}-{noun}" for turn in turns for adjective, noun in turn][:many]
