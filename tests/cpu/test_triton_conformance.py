"""Triton's kernels under its interpreter: the suites that every backend runs, in float32 and float16."""

from itertools import product
from typing import ClassVar

import pytest
import torch

from cpu.kernel_cases import ROUNDED_WEIGHTS, needs
from cpu.kernel_conformance import MIXED, Conformance, Spans, anything, check
from cpu.kernel_invariance import Invariance
from cpu.kernel_subjects import Subject
from cpu.triton_interpreter import TritonAttention
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.triton.tiles import Tiles
from samples.lengths import at_length

# The interpreter takes as long for an operation on a small tile as on a large one.
FEW_STEPS = Tiles(512, 256, 128, 4, 1, 16, 4, 1)
# As many segments in a short row as else in a long one. Programs of both kinds are of one height: the interpreter
# multiplies by numpy's BLAS, of which the bits of a row depend on how many rows there are.
SEGMENTS = Tiles(64, 32, 32, 4, 1, 32, 4, 1)

FLOAT, HALF = torch.float32, torch.float16
WINDOWED = [(FLOAT, None), (HALF, 7), (FLOAT, 64), (HALF, 600)]


def interpreted(sizes: Tiles | None) -> Subject:
    """The backend with these sizes of tiles; None for its own."""
    return Subject(
        lambda shape, threads: TritonAttention(shape, threads, sizes),
        TritonAttention.capabilities,
        half=torch.float16,
        tolerance=ROUNDED_WEIGHTS,
    )


@pytest.fixture
def subject() -> Subject:
    """The interpreted kernels in large steps."""
    return interpreted(FEW_STEPS)


class TestInterpreted(Conformance):
    """All cases; of those that hypothesis draws, some, and each window in one type unless it is to take long."""

    @pytest.mark.parametrize(("dtype", "window"), at_length(WINDOWED, [*product((FLOAT, HALF), (None, 7, 64, 600))]))
    def test_mixed_rows(self, subject: Subject, dtype: torch.dtype, window: int | None) -> None:
        check(subject, needs(dtype), MIXED, window)

    @anything(at_length(4, 8))
    def test_anything(
        self, subject: Subject, spans: Spans, shape: AttentionNeeds, window: int | None, threads: int, seed: int
    ) -> None:
        check(subject, shape, spans, window, threads, seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_sizes_that_gpus_are_given(dtype: torch.dtype) -> None:
    check(interpreted(None), needs(dtype, head_dim=128), MIXED, 600)


class TestBits(Invariance):
    """Short rows of many segments, split and merged, or folded one after the other."""

    spans: ClassVar = [(0, 33), (190, 1), (60, 5), (0, 1)]
    chunks: ClassVar = [1, 16, 17, 7, 40, 25]
    decoded: ClassVar = (75, 6)
    placements: ClassVar = [(1, 5)]

    @pytest.fixture
    def subject(self) -> Subject:
        return interpreted(SEGMENTS)

    @pytest.fixture(params=at_length([(HALF, 80)], [(FLOAT, 80), (HALF, 32)]), ids=str)
    def shape(self, request: pytest.FixtureRequest) -> AttentionNeeds:
        dtype, head_dim = request.param
        return needs(dtype, heads=6, kv_heads=2, head_dim=head_dim)
