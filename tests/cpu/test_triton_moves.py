"""Pages moved by Triton's kernel: the outcome is that of storage, which makes one move after the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu.triton_interpreter import move_pages
from infergc.heap.moves import Move
from infergc.worker.devices.copies import copy_runs, kernel_copies

PAGES, TOKENS = 7, 8
moves_lists = st.lists(
    st.tuples(st.integers(0, PAGES - 1), st.integers(0, PAGES - 1), st.integers(1, TOKENS)), max_size=9
)


def arena(dtype: torch.dtype = torch.float16, layers: int = 1, head_dim: int = 16) -> torch.Tensor:
    numbers = torch.arange(layers * 2 * PAGES * 2 * TOKENS * head_dim, dtype=torch.int32)
    return numbers.view(layers, 2, PAGES, 2, TOKENS, head_dim).to(dtype)


@settings(max_examples=25)
@given(moves_lists)
def test_moves_are_as_if_made_in_order(moves: list[tuple[int, int, int]]) -> None:
    ours, theirs = arena(), arena()
    listed = [Move("copy", 0, *move) for move in moves]
    kernel_copies()(ours, listed)
    copy_runs(theirs, listed)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.uint8], ids=str)
def test_every_layer_head_and_dtype(dtype: torch.dtype) -> None:
    ours = arena(dtype, layers=3, head_dim=80)
    expected = ours.clone()
    expected[:, :, 5, :, :3] = expected[:, :, 2, :, :3]
    move_pages(ours, [2], [5], [3], [1])
    assert torch.equal(ours, expected)


def test_long_pages_are_copied_piece_by_piece() -> None:
    ours = torch.randn(1, 2, 3, 1, 64, 96)
    expected = ours.clone()
    expected[:, :, 0, :, :50] = expected[:, :, 2, :, :50]
    move_pages(ours, [2], [0], [50], [1])
    assert torch.equal(ours, expected)


def test_moves_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="2 sources, 1 destinations and 2 lengths"):
        move_pages(arena(), [1, 2], [3], [8, 8], [2])
    for move in ([7], [0], [1]), ([0], [-1], [1]), ([0], [1], [9]):
        with pytest.raises(ValueError, match=r"storage has 7 pages of 8"):
            move_pages(arena(), *move, [1])
    with pytest.raises(ValueError, match="heads of 3 bytes"):
        move_pages(torch.zeros(1, 2, 4, 1, 8, 3, dtype=torch.uint8), [0], [1], [8], [1])
    with pytest.raises(ValueError, match="with gaps"):
        move_pages(arena()[:, :, ::2], [0], [1], [8], [1])
