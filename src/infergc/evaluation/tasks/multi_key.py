"""Multi-key lookup: the context is keys and values from end to end, a few of which are asked for (RULER, MK-NIAH)."""

from infergc.evaluation.tasks.burying import keys, largest, numbers
from infergc.evaluation.tasks.single_key import DIGITS, lookup, told
from infergc.evaluation.tasks.task import Sample, Setting

_FEWEST = 2  # tokens of a sentence, whatever the tokenizer


def multi_key(setting: Setting) -> Sample:
    """Pairs of keys and numbers, as many as fit; those asked for are neighbours at the depth.

    What is left is filled up with noise, less than another pair would take.
    """
    draw = setting.draw("multi-key")
    names = keys(draw, max(setting.questions, setting.length // _FEWEST))
    pairs = list(zip(names, numbers(draw, len(names), DIGITS, setting.haystack), strict=True))

    def build(more: int, words: int = 0) -> Sample:
        given = pairs[: setting.questions + more]
        first = round(setting.depth * (len(given) - setting.questions))
        asked = given[first : first + setting.questions]
        noise = setting.haystack.sentences(setting.draw("multi-key, noise"), words)
        context = " ".join([*(told(*pair) for pair in given), *noise])
        return Sample(context, tuple(lookup(*pair) for pair in asked))

    most = len(pairs) - setting.questions
    more = _pairs(largest("multi-key", setting, build, most)) - setting.questions
    return largest("multi-key", setting, lambda words: build(more, words), setting.length)


def _pairs(sample: Sample) -> int:
    return sample.context.count("The number of ")
