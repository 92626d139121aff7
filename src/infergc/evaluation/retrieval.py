"""Retrieval: what a model still finds in a context that was computed before anybody asked.

The context goes first and alone, so no policy can see what will be asked. Then all questions go at once, each on the
pages that the context left in the prefix cache.
"""

from typing import Any

from infergc.engine.messages import Submit
from infergc.evaluation.plan import RetrievalCell
from infergc.evaluation.subject import Subject
from infergc.evaluation.tasks import TASKS, Haystack, Sample, Setting, room, score
from infergc.params import SamplingParams
from infergc.text.tokenizer import Tokenizer


def sample_of(cell: RetrievalCell, tokenizer: Tokenizer, haystack: Haystack) -> Sample:
    """The cell's context and questions.

    Raises:
        TaskError: the length is too short for the task.
    """

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    begin = len(tokenizer.encode(""))
    return TASKS[cell.task](Setting(cell.length, cell.depth, cell.seed, count, begin, cell.questions, haystack))


def ask(subject: Subject, cell: RetrievalCell, sample: Sample, tokenizer: Tokenizer) -> dict[str, Any]:
    """Compute the context, then ask the questions on its cache, and score the answers.

    Returns:
        score: mean over the questions, 0 to 1.
        scores, answers, expected: of each.
        context_tokens: of the context.
        shared_tokens: of each question's prompt, found in the cache; no more than whole pages of the context are.
        held_bytes: KV that the context held when it had been computed, in pages as they are allocated.
        preemptions: of all requests together.

    Raises:
        RuntimeError: the engine gave up.
    """
    context = tokenizer.encode(sample.context)
    salt = f"{cell.task}/{cell.length}/{cell.depth}/{cell.seed}"
    alone = SamplingParams(max_tokens=1, temperature=0, ignore_eos=True, seed=0)
    (first,) = subject.run([Submit("context", context, alone, salt=salt)])
    held = subject.most_held
    requests = []
    for number, question in enumerate(sample.questions):
        asked = tokenizer.encode(question.text, add_special_tokens=False)
        most = room(question, lambda text: len(tokenizer.encode(text, add_special_tokens=False)))
        params = SamplingParams(max_tokens=most, temperature=0, seed=0)
        requests.append(Submit(str(number), [*context, *asked], params, salt=salt))
    answers = subject.run(requests)
    texts = [tokenizer.decode(answer.tokens) for answer in answers]
    scores = [score(text, question.answers) for text, question in zip(texts, sample.questions, strict=True)]
    return {
        "score": sum(scores) / len(scores),
        "scores": scores,
        "answers": texts,
        "expected": [list(question.answers) for question in sample.questions],
        "context_tokens": len(context),
        "shared_tokens": [answer.cached for answer in answers],
        "held_bytes": held,
        "preemptions": sum(answer.preemptions for answer in [first, *answers]),
    }
