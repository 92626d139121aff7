"""The suite of bits that every attention backend runs: a token's depend on its query, keys and values only.

A module that runs it derives a class from ``Invariance`` and has fixtures ``subject`` (see kernel_subjects.py) and
``shape``.
"""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from cpu.kernel_cases import alone, in_chunks, make_case, run
from cpu.kernel_subjects import Subject
from infergc.kernels.api import AttentionNeeds

windowed = pytest.mark.parametrize("window", [None, 200])


def same_bits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Assert bitwise equality, and that something was computed."""
    assert not expected.isnan().any()
    assert expected.abs().max() > 0.01
    assert torch.equal(actual, expected)


class Invariance:
    """The same tokens in other company, in other chunks, at other places."""

    spans: ClassVar = [(0, 33), (1500, 1), (700, 1), (510, 5), (1020, 70), (0, 1), (2047, 1)]
    chunks: ClassVar = [1, 16, 63, 7, 430, 64, 500, 19]  # of one row
    decoded: ClassVar = (490, 40)  # tokens of a prompt, and tokens after it, one at a time
    placements: ClassVar = [(1, 5), (3, 6), (200, 7)]  # longest extent, and seed

    @windowed
    def test_alone_and_batched(self, subject: Subject, shape: AttentionNeeds, window: int | None) -> None:
        case = make_case(shape, self.spans, window)
        each = [subject.run(alone(case, row)) for row in range(len(self.spans))]
        same_bits(subject.run(case), torch.cat(each))

    @windowed
    def test_whole_and_in_chunks(self, subject: Subject, shape: AttentionNeeds, window: int | None) -> None:
        case = subject.on_device(make_case(shape, [(0, sum(self.chunks))], window))
        backend = subject.backend(case)
        same_bits(in_chunks(backend, case, self.chunks), run(backend, case))

    @windowed
    def test_decode_and_prefill(self, subject: Subject, shape: AttentionNeeds, window: int | None) -> None:
        prompt, tokens = self.decoded
        case = subject.on_device(make_case(shape, [(0, prompt + tokens)], window))
        backend = subject.backend(case)
        same_bits(in_chunks(backend, case, [prompt] + [1] * tokens), run(backend, case))

    @windowed
    def test_page_placement(self, subject: Subject, shape: AttentionNeeds, window: int | None) -> None:
        case = make_case(shape, self.spans, window)
        expected = subject.run(case)
        for longest, seed in self.placements:
            same_bits(subject.run(replace(case, longest_extent=longest, seed=seed)), expected)

    @pytest.mark.parametrize("page_tokens", [8, 32, 64])
    def test_page_size(self, subject: Subject, shape: AttentionNeeds, page_tokens: int) -> None:
        case = make_case(shape, self.spans)
        same_bits(subject.run(replace(case, needs=replace(shape, page_tokens=page_tokens))), subject.run(case))
