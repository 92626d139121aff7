"""Free space against a list of free pages."""

import numpy as np
import pytest

from infergc.heap.errors import HeapCorruption
from infergc.heap.pages import page_numbers
from infergc.heap.space import Extent, FreeSpace, class_pages


@pytest.mark.parametrize(
    ("page_tokens", "classes"),
    [(8, (128, 64, 32, 16, 8, 1)), (16, (64, 32, 16, 8, 4, 1)), (32, (32, 16, 8, 4, 2, 1)), (64, (16, 8, 4, 2, 1))],
)
def test_size_classes_are_64_to_1024_tokens_and_single_pages(page_tokens: int, classes: tuple[int, ...]) -> None:
    assert class_pages(page_tokens) == classes


@pytest.mark.parametrize("capacity", [1, 63, 64, 65, 200, 256])
def test_random_use_agrees_with_a_list(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    space, free = FreeSpace(capacity, 16), set(range(capacity))
    held: list[tuple[int, int]] = []
    for _ in range(600):
        if held and rng.random() < 0.5:
            first, length = held.pop(int(rng.integers(len(held))))
            cut = int(rng.integers(length + 1))  # give back in two pieces of any shape
            for start, count in ((first, cut), (first + cut, length - cut)):
                space.give(start, count)
                free |= set(range(start, start + count))
        elif free:
            want = int(rng.integers(1, 1 + (len(free) if rng.random() < 0.2 else min(len(free), 8))))
            after = int(rng.integers(-1, capacity))
            adjacent = _run_from(free, after + 1) if after >= 0 else 0
            extents = space.take(want, after, int(rng.integers(0, 80)))
            taken = page_numbers(extents).tolist()
            assert len(taken) == want
            assert set(taken) <= free
            assert taken[: min(adjacent, want)] == list(range(after + 1, after + 1 + min(adjacent, want)))
            free -= set(taken)
            held += extents
        assert space.free == len(free)
        assert space.free_pages() == sorted(free)
        assert all(space.is_free(page) == (page in free) for page in range(capacity))
        assert all(filed <= space.longest_class(mask) for filed, mask in zip(space.filed, space.masks, strict=True))


def _run_from(free: set[int], first: int) -> int:
    count = 0
    while first + count in free:
        count += 1
    return count


@pytest.mark.parametrize("capacity", [64, 200])
def test_every_page_can_be_had_however_they_lie(capacity: int) -> None:
    space = FreeSpace(capacity, 16)
    space.take(capacity)
    for page in range(0, capacity, 3):
        space.give(page, 1)
    taken = page_numbers(space.take(space.free)).tolist()
    assert sorted(taken) == list(range(0, capacity, 3))
    assert space.free == 0


def test_fits_foretells_take() -> None:
    rng = np.random.default_rng(0)
    space = FreeSpace(256, 16)
    space.take(256)
    for page in rng.choice(256, 100, replace=False).tolist():
        space.give(page, 1)
    seen = set()
    for _ in range(200):
        want, after, expect = int(rng.integers(1, 12)), int(rng.integers(-1, 256)), int(rng.integers(0, 12))
        fits = space.fits(want, after, expect)
        before = list(space.masks)
        extents = space.take(want, after, expect)
        if fits:
            assert len(extents) <= 2 + want // 4  # neighbours, then runs of at least the class
        seen.add(fits)
        for first, length in extents:
            space.give(first, length)
        assert space.masks == before
    assert seen == {True, False}


def test_a_tail_grows_into_its_free_neighbour_and_nothing_is_reserved() -> None:
    space = FreeSpace(128, 16)
    (first,) = space.take(1, expect=8)
    assert space.take(1, after=first[0], expect=8) == [(first[0] + 1, 1)]
    assert space.free == 126
    assert len(page_numbers(space.take(126))) == 126  # all the rest is to be had


def test_two_growing_sequences_do_not_start_side_by_side() -> None:
    space = FreeSpace(128, 16)
    one = space.take(1, expect=16)[0][0]
    two = space.take(1, expect=16)[0][0]
    for _ in range(15):
        one = space.take(1, after=one)[0][0]
        two = space.take(1, after=two)[0][0]
    assert sorted((one, two)) == sorted((15, two))
    assert abs(one - two) >= 16


def test_small_needs_leave_large_runs_alone() -> None:
    space = FreeSpace(256, 16)
    space.take(64)
    space.give(5, 4)
    assert space.take(1) == [(5, 1)]
    assert space.take(64) == [(64, 64)]


def test_freeing_twice_is_found_and_changes_nothing() -> None:
    space = FreeSpace(64, 16)
    space.take(8)
    space.give(0, 4)
    with pytest.raises(HeapCorruption, match="law 1"):
        space.give(3, 1)
    assert space.free == 60


def test_taking_more_than_is_free_is_found() -> None:
    with pytest.raises(HeapCorruption, match="law 9"):
        FreeSpace(8, 16).take(9)


def test_the_same_calls_give_the_same_pages() -> None:
    def play() -> list[list[Extent]]:
        rng, space, log = np.random.default_rng(5), FreeSpace(300, 16), list[list[Extent]]()
        for _ in range(300):
            want = int(rng.integers(1, 20))
            if space.free >= want:
                log.append(space.take(want, int(rng.integers(-1, 300)), int(rng.integers(0, 40))))
            else:
                for first, length in log.pop(int(rng.integers(len(log)))):
                    space.give(first, length)
        return log

    assert play() == play()


def test_one_page_is_taken_if_it_is_there_and_free() -> None:
    space = FreeSpace(70, 16)
    assert [space.take_one(page) for page in (69, 69, 70, -1, 3)] == [True, False, False, False, True]
    assert (space.free, space.is_free(69), space.is_free(68), space.is_free(3)) == (68, False, True, False)


@pytest.mark.parametrize("page_tokens", [8, 16, 32, 64])
def test_the_class_of_a_mask_is_that_of_its_longest_aligned_run(page_tokens: int) -> None:
    rng = np.random.default_rng(page_tokens)
    space = FreeSpace(1024, page_tokens)
    for _ in range(300):
        pages = rng.random(space.width) < rng.random() ** 0.2
        mask = sum(1 << at for at in np.flatnonzero(pages).tolist())
        runs = [any(pages[at : at + size].all() for at in range(0, space.width, size)) for size in space.classes]
        assert space.longest_class(mask) == (runs.index(True) if any(runs) else len(runs))
