"""Single-key lookup: one sentence gives a key its value, all else is noise (RULER, S-NIAH)."""

from infergc.evaluation.tasks.burying import bury, keys, number
from infergc.evaluation.tasks.task import Question, Sample, Setting

DIGITS = 7
_WORDINGS = ("What is the number of {}?", "Which number belongs to {}?", "Look up {}.")


def single_key(setting: Setting) -> Sample:
    """A key and its number, at the depth; asked for in up to three wordings."""
    draw = setting.draw("single-key")
    (key,) = keys(draw, 1)
    value = number(draw, DIGITS, setting.haystack)
    questions = [lookup(key, value, wording) for wording in _WORDINGS[: setting.questions]]
    return bury("single-key", setting, [(setting.depth, told(key, value))], questions)


def told(key: str, value: str) -> str:
    """The sentence that gives the key its value."""
    return f"The number of {key} is {value}."


def lookup(key: str, value: str, wording: str = _WORDINGS[0]) -> Question:
    """The question for the key's value; its end is the sentence's beginning."""
    asked = wording.format(key)
    return Question(f"\n\nQuestion: {asked}\nAnswer: The number of {key} is", (value,), f" {value}.")
