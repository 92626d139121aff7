"""Recall tasks: made from a seed, of the length asked for, their answers where they should be."""

import re

import pytest

from infergc.evaluation.tasks import TASKS, Haystack, Question, Sample, Setting, TaskError, room, score
from infergc.evaluation.tasks.variable_tracking import HOPS

LENGTHS = (400, 1000, 3000)
FEW = 12  # tokens that may be missing: a word of noise, a pair's end
PIECES = re.compile(r"\w{1,4}|[^\w\s]")  # a tokenizer that cuts words


def count(text: str) -> int:
    return len(PIECES.findall(text))


def setting(length: int = 1000, depth: float = 0.5, seed: int = 0, **others: object) -> Setting:
    return Setting(length, depth, seed, count, **others)


def size(sample: Sample) -> int:
    return count(sample.context) + max(count(each.text) + room(each, count) for each in sample.questions)


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest):
    return TASKS[request.param]


def test_a_setting_gives_one_sample_and_another_seed_another(task):
    assert task(setting()) == task(setting())
    assert len({task(setting(seed=seed)).context for seed in range(5)}) == 5
    assert task(setting(depth=0.5)).context != task(setting(depth=0.75)).context, "no two cells share a cache"


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_it_is_as_long_as_asked_for(task, length, depth):
    found = size(task(setting(length, depth)))
    assert length - FEW <= found <= length


def test_every_answer_stands_in_the_context(task):
    sample = task(setting(questions=3))
    assert len(sample.questions) == 3
    for question in sample.questions:
        assert score(question.target, question.answers) == 1
        assert all(sample.context.count(answer) >= 1 for answer in question.answers)
        assert not any(answer in question.text for answer in question.answers)


@pytest.mark.parametrize("name", ["passkey", "single-key", "multi-key", "copying"])
@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 1.0])
def test_an_answer_stands_once_and_at_its_depth(name, depth):
    sample = TASKS[name](setting(3000, depth))
    for question in sample.questions:
        (answer,) = question.answers
        assert sample.context.count(answer) == 1
        assert sample.context.index(answer) / len(sample.context) == pytest.approx(depth, abs=0.08)


def test_of_many_keys_each_is_told_once_and_neighbours_are_asked_for():
    sample = TASKS["multi-key"](setting(3000, questions=4))
    keys = re.findall(r"The number of (\S+) is (\d{7})\.", sample.context)
    assert len(keys) > 100
    assert len(dict(keys)) == len(keys)
    assert len({value for _, value in keys}) == len(keys)
    asked = [key for key, _ in keys if any(f"of {key} is" in question.text for question in sample.questions)]
    at = [key for key, _ in keys].index(asked[0])
    assert asked == [key for key, _ in keys][at : at + 4]
    assert at == pytest.approx(len(keys) / 2, abs=4)


def test_chains_can_be_followed_from_first_to_last():
    sample = TASKS["variable-tracking"](setting(2000, 0.25))
    held: dict[str, str] = {}
    for name, source in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)\.", sample.context):
        held[name] = held.get(source, source)
    for question in sample.questions:
        value = re.search(r"the value (\d+)\?", question.text)[1]
        assert {name for name in held if held[name] == value} == set(question.answers)
        assert len(question.answers) == HOPS + 1
    first, last = sample.context.index("VAR"), sample.context.rindex("VAR")
    assert first / len(sample.context) == pytest.approx(0.25, abs=0.1)
    assert last > 0.7 * len(sample.context)


def test_no_answer_stands_in_the_haystack_and_its_sentences_come_from_it():
    taken = " ".join(f"Once there were {number} of them." for number in range(10_000, 99_000, 1000))
    haystack = Haystack(taken)
    for seed in range(20):
        sample = TASKS["passkey"](setting(seed=seed, haystack=haystack))
        (answer,) = sample.questions[0].answers
        assert answer not in taken
    sentences = haystack.sentences(setting().draw("x"), 6 * 89 + 2)
    assert len({*sentences[:-1]}) == len(sentences) - 1 == 89, "each once, from the start again after the last"
    assert sentences[-1] == "Once there.", "the last one is cut"
    assert all(each in taken for each in sentences[:-1])


def test_what_does_not_fit_is_refused_with_what_does(task):
    with pytest.raises(TaskError, match=r"10 tokens are too few; with (\d+) and more") as caught:
        task(setting(10))
    least = int(re.search(r"with (\d+)", str(caught.value))[1])
    assert size(task(setting(least + FEW))) <= least + FEW


@pytest.mark.parametrize(("field", "value"), [("depth", -0.1), ("depth", 1.1), ("questions", 0)])
def test_what_is_out_of_bounds_is_refused(field, value):
    with pytest.raises(TaskError, match="not allowed"):
        setting(**{field: value})


def test_the_share_of_the_strings_found_is_the_score():
    assert score("It is 12345, I think", ["12345"]) == 1
    assert score("abc and DEF", ["ABC", "def", "ghi", "jkl"]) == 0.5
    assert score("", ["1"]) == 0
    assert Question("?", ("a",), " a.").target == " a."
