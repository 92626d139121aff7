"""Pass key: one number in noise (Mohtashami & Jaggi 2023; RULER's single needle in noise)."""

from infergc.evaluation.tasks.burying import bury, number
from infergc.evaluation.tasks.task import Question, Sample, Setting

_DIGITS = 5
_WORDINGS = ("What is the pass key?", "Which number was to be remembered?", "Say the pass key again.")


def passkey(setting: Setting) -> Sample:
    """A number to be remembered, at the depth; asked for in up to three wordings."""
    value = number(setting.draw("passkey"), _DIGITS, setting.haystack)
    questions = [
        Question(f"\n\nQuestion: {wording}\nAnswer: The pass key is", (value,), f" {value}.")
        for wording in _WORDINGS[: setting.questions]
    ]
    return bury("passkey", setting, [(setting.depth, f"The pass key is {value}.")], questions)
