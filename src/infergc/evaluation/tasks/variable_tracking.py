"""Variable tracking: chains of assignments, and which variables hold a value in the end (RULER, VT)."""

import random
from string import ascii_uppercase

from infergc.evaluation.tasks.burying import Needle, bury, numbers
from infergc.evaluation.tasks.task import Question, Sample, Setting

HOPS = 4  # assignments of a chain after its first: RULER's
_LETTERS = 5
_DIGITS = 5


def variable_tracking(setting: Setting) -> Sample:
    """A chain for each question: a variable is given a value, and four more are given it from one to the next.

    The first assignments lie at the depth, the others evenly between it and the end.
    """
    draw = setting.draw("variable-tracking")
    values = numbers(draw, setting.questions, _DIGITS, setting.haystack)
    names = _names(draw, setting)
    needles: list[Needle] = []
    questions = []
    for at, value in enumerate(values):
        chain = names[at * (HOPS + 1) : (at + 1) * (HOPS + 1)]
        needles += _assignments(chain, value, setting.depth)
        asked = f"Which variables hold the value {value}?\nAnswer: The variables that hold {value} are"
        questions.append(Question(f"\n\nQuestion: {asked}", tuple(chain), f" {', '.join(chain)}."))
    return bury("variable-tracking", setting, needles, questions)


def _assignments(chain: list[str], value: str, depth: float) -> list[Needle]:
    sources = [value, *(f"VAR {name}" for name in chain)]
    steps = [depth + (1 - depth) * hop / (HOPS + 1) for hop in range(HOPS + 1)]
    return [
        (step, f"VAR {name} = {source}.") for step, name, source in zip(steps, chain, sources[: HOPS + 1], strict=True)
    ]


def _names(draw: random.Random, setting: Setting) -> list[str]:
    """Names for all chains, no two alike, and none that the haystack has."""
    found: dict[str, None] = {}
    while len(found) < setting.questions * (HOPS + 1):
        name = "".join(draw.choices(ascii_uppercase, k=_LETTERS))
        if not setting.haystack.holds(name):
            found[name] = None
    return list(found)
