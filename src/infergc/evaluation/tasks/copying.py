"""Copying: lists of words stand in the context, and are to be said again word by word."""

from infergc.evaluation.tasks.burying import bury, keys
from infergc.evaluation.tasks.task import Question, Sample, Setting
from infergc.evaluation.tasks.words import ITEMS

WORDS = 8  # of a list


def copying(setting: Setting) -> Sample:
    """A named list for each question, all at the depth; the answer counts when it has every word in its place.

    No word is in two lists, up to eleven of them, and none in noise that is made up.
    """
    draw = setting.draw("copying")
    names, items = keys(draw, setting.questions), draw.sample(ITEMS, len(ITEMS))
    needles, questions = [], []
    for at, name in enumerate(names):
        words = " ".join(items[(at * WORDS + word) % len(items)] for word in range(WORDS))
        needles.append((setting.depth, f"List {name}: {words}."))
        asked = f"\n\nQuestion: Say list {name} again.\nAnswer: List {name}:"
        questions.append(Question(asked, (words,), f" {words}."))
    return bury("copying", setting, needles, questions)
