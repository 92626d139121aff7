"""Copying: lists of words stand in the context, and are to be said again word by word."""

from infergc.evaluation.tasks.burying import bury, keys
from infergc.evaluation.tasks.task import Question, Sample, Setting
from infergc.evaluation.tasks.words import NOUNS

WORDS = 8  # of a list


def copying(setting: Setting) -> Sample:
    """A named list for each question, all at the depth; the answer counts when it has every word in its place."""
    draw = setting.draw("copying")
    needles, questions = [], []
    for name in keys(draw, setting.questions):
        words = " ".join(draw.sample(NOUNS, WORDS))
        needles.append((setting.depth, f"List {name}: {words}."))
        asked = f"\n\nQuestion: Say list {name} again.\nAnswer: List {name}:"
        questions.append(Question(asked, (words,), f" {words}."))
    return bury("copying", setting, needles, questions)
