"""The sketch of counts: never too small before it ages, rarely too large, and of bounded size."""

from collections import Counter

import numpy as np

from infergc.policies.retention.sketch import Sketch


def counted(sketch: Sketch, mark: int, times: int) -> None:
    for _ in range(times):
        sketch.add(np.array([mark], np.uint64))


def test_counts_are_never_too_small_and_rarely_too_large() -> None:
    rng = np.random.default_rng(1)
    marks = rng.integers(1, 2**63, 300).astype(np.uint64)
    sketch, truth = Sketch(1024, 10**6), Counter[int]()
    for _ in range(600):
        some = rng.choice(marks, 4, replace=False)
        sketch.add(some)
        truth.update(some.tolist())
    true = np.array([min(truth[mark], 15) for mark in marks.tolist()])
    assert (sketch.estimate(marks) >= true).all()
    assert (sketch.estimate(marks) == true).mean() > 0.95


def test_counts_end_at_fifteen() -> None:
    sketch = Sketch(16, 10**6)
    counted(sketch, 5, 40)
    assert sketch.estimate(np.array([5], np.uint64)).tolist() == [15]


def test_counts_are_halved_once_a_sample() -> None:
    sketch = Sketch(64, 20)
    counted(sketch, 5, 9)
    counted(sketch, 6, 10)
    assert sketch.estimate(np.array([5, 6], np.uint64)).tolist() == [9, 10]
    counted(sketch, 6, 1)  # the twentieth
    assert sketch.estimate(np.array([5, 6], np.uint64)).tolist() == [4, 5]
    counted(sketch, 7, 10)  # those halved count half of the next sample
    assert sketch.estimate(np.array([5, 6], np.uint64)).tolist() == [2, 2]
