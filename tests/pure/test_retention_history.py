"""What is remembered of prefixes against a dictionary that forgets nothing, and what was learnt against the truth."""

import numpy as np
import pytest

from infergc.policies.retention.history import History
from infergc.policies.retention.reuse import Reuse

RNG = np.random.default_rng(7)


def marks(count: int) -> np.ndarray:
    return RNG.integers(0, 1 << 64, count, np.uint64)


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
        assert all(history.find(mark) == told for mark, told in truth.items())
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


def test_times_begin_anew() -> None:
    history, mark = History(64), marks(1)
    late = (1 << 32) - 5
    history.note(mark, late)
    assert history.note(mark, late + 10).age.tolist() == [10]
    found = history.find(int(mark[0]))
    assert found is not None
    assert history.age(found[1], late + 12) == 2


def learnt(gaps: list[float], chances: list[float], pages: int = 4000, rate: int = 10) -> Reuse:
    """Classes of which so large a share comes again after its gap, exponentially distributed; the others never."""
    reuse, now = Reuse(len(gaps), 1000, 20.0, 1 << 30), 0
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
    reuse, now = Reuse(1, 1000, 20.0, 1 << 30), 0
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
    reuse = Reuse(3, 1000, 20.0, 1 << 30)
    assert reuse.worth(0, 10) > reuse.worth(0, 10_000)
    assert reuse.worth(2, 10) > reuse.worth(1, 10) > reuse.worth(0, 10)


def test_what_was_counted_long_ago_counts_less() -> None:
    reuse, now = Reuse(1, 100, 2.0, 2000), 0
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
