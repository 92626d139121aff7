"""Recall tasks after RULER (Hsieh et al. 2024, arXiv 2404.06654), made from a seed; one file a task.

Text in and text out: whoever measures or trains brings the tokenizer.
"""

from collections.abc import Callable

from infergc.evaluation.tasks.copying import copying
from infergc.evaluation.tasks.haystack import Haystack
from infergc.evaluation.tasks.multi_key import multi_key
from infergc.evaluation.tasks.passkey import passkey
from infergc.evaluation.tasks.single_key import single_key
from infergc.evaluation.tasks.task import Question, Sample, Setting, TaskError, room, score
from infergc.evaluation.tasks.variable_tracking import variable_tracking

__all__ = ["TASKS", "Haystack", "Question", "Sample", "Setting", "TaskError", "room", "score"]

TASKS: dict[str, Callable[[Setting], Sample]] = {
    "passkey": passkey,
    "single-key": single_key,
    "multi-key": multi_key,
    "variable-tracking": variable_tracking,
    "copying": copying,
}
