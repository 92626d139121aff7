"""What is remembered of prefixes against a dictionary that forgets nothing, and what was learnt against the truth."""

import numpy as np
import pytest

from infergc.policies.retention.history import History
from infergc.policies.retention.reuse import Reuse

RNG = np.random.default_rng(7)


def marks(count: int) -> np.ndarray:
    return RNG.integers(0, 1 << 64, count, np.uint64)


def told(history: History, mark: int) -> tuple[int, int] | None:
    found = history.find(mark)
    return None if found is None else (found.uses, found.when)


def test_it_says_what_a_dictionary_would() -> None:
    history, truth, now = History(1 << 14), dict[int, tuple[int, int]](), 1
    known = marks(500)
    for _ in range(200):
        some = RNG.choice(known, 20, replace=False)
        seen = history.note(some, now)
        assert seen.known.tolist() == [int(mark) in truth for mark in some]
        was = [truth[int(mark)] for mark in some if int(mark) in truth]
        assert seen.uses.tolist() == [uses for uses, _ in was]
        assert seen.age.tolist() == [now - when for _, when in was]
        for mark in some.tolist():
            truth[mark] = (min(truth[mark][0] + 1, 255) if mark in truth else 0, now)
        assert all(told(history, mark) == (min(uses, 255), when) for mark, (uses, when) in truth.items())
        now += 20


def test_uses_stop_at_what_an_entry_holds() -> None:
    history, mark = History(64), marks(1)
    for now in range(1, 400):
        seen = history.note(mark, now)
    assert seen.uses.tolist() == [255]


def test_it_forgets_what_came_longest_ago_and_stays_as_large() -> None:
    history = History(1024)
    all_marks = marks(256 * 64)
    latest = all_marks[-256:]
    for now, batch in enumerate(np.split(all_marks, 256), 1):
        history.note(batch, now)
        kept = [history.find(int(mark)) is not None for mark in batch]
        assert np.mean(kept) > 0.95  # more of one batch than a set holds
    late = [history.find(int(mark)) is not None for mark in latest]
    assert np.mean(late) > 0.9
    assert history._table.size == 1024


def test_what_is_new_does_not_take_the_place_of_what_is_known_in_the_same_prompt() -> None:
    """Of one set, in which the page that is known came longest ago."""
    history = History(4)
    known, *others = np.split(marks(5), 5)
    history.note(known, 1)
    for now, other in enumerate(others[:3], 2):
        history.note(other, now)
    history.note(np.concatenate([known, others[3]]), 10)
    assert (told(history, int(known[0])), told(history, int(others[3][0]))) == ((1, 10), (0, 10))


def test_a_prompt_of_which_all_pages_come_to_one_set_is_noted() -> None:
    history, many = History(4), marks(5000)
    assert not history.note(many, 1).known.any()
    assert sum(history.find(int(mark)) is not None for mark in many) == 4


def test_depth_is_how_many_prompts_stand_before() -> None:
    history, turns = History(1 << 12), np.split(marks(40), 4)
    for now in range(1, 5):
        seen = history.note(np.concatenate(turns[:now]), now)
        assert seen.below == now - 1
    found = [history.find(int(turn[-1])) for turn in turns]
    assert [one and one.depth for one in found] == [0, 1, 2, 3]
    assert seen.depth.tolist() == [0] * 10 + [1] * 10 + [2] * 10


def test_times_begin_anew() -> None:
    history, mark = History(64), marks(1)
    late = (1 << 32) - 5
    history.note(mark, late)
    assert history.note(mark, late + 10).age.tolist() == [10]
    found = history.find(int(mark[0]))
    assert found is not None
    assert history.age(found.when, late + 12) == 2


def learnt(gaps: list[float], chances: list[float], pages: int = 4000, rate: int = 10) -> Reuse:
    """Classes of which so large a share comes again after its gap, exponentially distributed; the others never."""
    reuse, now = Reuse(len(gaps), 1, 1000, 20.0, 1 << 30), 0
    coming: list[tuple[int, int, int]] = []
    for _ in range(pages):
        now += rate
        for number, (gap, chance) in enumerate(zip(gaps, chances, strict=True)):
            reuse.began(np.array([number]))
            if RNG.random() < chance:
                age = int(RNG.exponential(gap)) + 1
                coming.append((now + age, number, age))
        due = [each for each in coming if each[0] <= now]
        coming = [each for each in coming if each[0] > now]
        for _, number, age in due:
            reuse.came_again(np.array([number]), np.array([age]))
        if now % 2000 == 0:
            reuse.learn(now)
    reuse.learn(now)
    return reuse


def test_who_comes_again_more_often_is_worth_more_at_every_age() -> None:
    reuse = learnt([500, 500], [0.2, 0.7])
    assert all(reuse.worth(1, age) > 1.5 * reuse.worth(0, age) for age in (1, 50, 200, 500))


def test_worth_is_the_rate_at_which_pages_come_again() -> None:
    """With a constant hazard all of it is one number: 1 / gap where all come again."""
    reuse = learnt([300], [1.0])
    assert reuse.worth(0, 0) == pytest.approx(1 / 300, rel=0.25)


def test_old_pages_of_which_most_never_come_are_worth_less() -> None:
    reuse = learnt([200], [0.5])
    assert reuse.worth(0, 2000) < 0.2 * reuse.worth(0, 10)


def test_pages_that_come_late_are_worth_more_when_they_are_old() -> None:
    reuse, now = Reuse(1, 1, 1000, 20.0, 1 << 30), 0
    for step in range(3000):
        now += 10
        reuse.began(np.zeros(1, np.int64))
        if step >= 100:
            reuse.came_again(np.zeros(1, np.int64), np.array([1000 + step % 50]))
        if step % 200 == 0:
            reuse.learn(now)
    reuse.learn(now)
    assert reuse.worth(0, 900) > 2 * reuse.worth(0, 10)


def test_before_anything_is_known_use_and_youth_count() -> None:
    reuse = Reuse(3, 1, 1000, 20.0, 1 << 30)
    assert reuse.worth(0, 10) > reuse.worth(0, 10_000)
    assert reuse.worth(2, 10) > reuse.worth(1, 10) > reuse.worth(0, 10)


def test_what_was_counted_long_ago_counts_less() -> None:
    reuse, now = Reuse(1, 1, 100, 2.0, 2000), 0
    for step in range(2000):
        now += 10
        reuse.began(np.zeros(10, np.int64))
        if step < 300:
            reuse.came_again(np.zeros(9, np.int64), np.full(9, 20))
        if step % 50 == 0:
            reuse.learn(now)
        if step == 290:
            before = reuse.worth(0, 1)
    assert reuse.worth(0, 1) < 0.1 * before


def test_kin_are_guessed_to_be_alike_until_more_is_known() -> None:
    reuse, now = Reuse(4, 3, 100, 1.0, 1 << 30), 0
    for step in range(2000):
        now += 10
        reuse.began(np.array([0, 0]))
        if step < 5:
            reuse.began(np.array([1]))
        if step > 1000:
            reuse.began(np.array([2]))
            reuse.came_again(np.array([2]), np.array([50]))
        if step % 50 == 0:
            reuse.learn(now)
    reuse.learn(now)
    assert 20 * reuse.worth(0, 10) < reuse.worth(1, 10) < 0.5 * reuse.worth(2, 10)
