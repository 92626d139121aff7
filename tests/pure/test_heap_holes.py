"""Where evacuated pages go: the choice of gaps."""

from hypothesis import given, settings
from hypothesis import strategies as st

from infergc.heap.holes import Holes
from infergc.heap.space import runs_in

W = 16


def test_runs_of_a_mask() -> None:
    assert list(runs_in(0)) == []
    assert list(runs_in(0b1011_0001_1100)) == [(2, 3), (8, 2), (11, 1)]
    assert list(runs_in((1 << 200) - 1)) == [(0, 200)]


def test_the_smallest_gap_that_fits_goes_first_then_the_longest() -> None:
    holes = Holes()
    holes.add(100, 0b0111_0001_1111_0011)  # gaps of 2, 5 and 3
    assert holes.pages == 10
    assert holes.take(3) == [(112, 3)]
    assert holes.take(1) == [(100, 1)]
    assert holes.take(6) == [(104, 5), (101, 1)]
    assert holes.pages == 0


def test_of_equal_gaps_the_superblock_offered_first_goes_first() -> None:
    holes = Holes()
    holes.add(64, 0b11)
    holes.add(0, 0b11)
    assert holes.take(2) == [(64, 2)]
    assert holes.take(2) == [(0, 2)]


def test_gaps_that_are_dropped_are_not_chosen() -> None:
    holes = Holes()
    holes.add(64, 0b11)
    holes.add(0, 0b1_1011)
    holes.drop(64, 64 + W)
    assert holes.pages == 4
    assert holes.take(3) == [(3, 2), (0, 1)]
    holes.drop(0, W)
    assert holes.pages == 0
    holes.drop(0, W)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(masks=st.lists(st.integers(1, (1 << W) - 1), min_size=1, max_size=5), wants=st.lists(st.integers(0, 12)))
def test_no_page_is_chosen_twice_and_none_that_is_not_free(masks: list[int], wants: list[int]) -> None:
    holes = Holes()
    for block, mask in enumerate(masks):
        holes.add(block * W, mask)
    free = {block * W + bit for block, mask in enumerate(masks) for bit in range(W) if mask >> bit & 1}
    assert holes.pages == len(free)
    for want in wants:
        count = min(want, holes.pages)
        chosen = {page for first, pages in holes.take(count) for page in range(first, first + pages)}
        assert len(chosen) == count
        assert chosen <= free
        free -= chosen
    assert holes.pages == len(free)
