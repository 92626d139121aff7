"""The suite that every attention backend runs: each case beside the reference.

A module that runs it derives a class from ``Conformance`` and has a fixture ``subject`` (see kernel_subjects.py).
"""

from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpu.kernel_cases import Case, make_case, needs, run
from cpu.kernel_subjects import Subject
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.reference import ReferenceAttention

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
MIXED = [(0, 40), (700, 1), (1023, 1), (500, 17), (0, 1), (1020, 9), (63, 2), (15, 1), (16, 1)]

Spans = list[tuple[int, int]]


@cache
def expectation(
    shape: AttentionNeeds, spans: tuple[tuple[int, int], ...], window: int | None, seed: int
) -> tuple[Case, torch.Tensor]:
    """Draw a case and ask the reference, once for all subjects."""
    case = make_case(shape, list(spans), window, seed)
    return case, run(ReferenceAttention(shape), case)


def check(
    subject: Subject, shape: AttentionNeeds, spans: Spans, window: int | None = None, threads: int = 2, seed: int = 0
) -> None:
    """Compare a subject with the reference on the same case."""
    case, expected = expectation(shape, tuple(spans), window, seed)
    actual = subject.run(case, threads)
    assert not expected.isnan().any()
    torch.testing.assert_close(actual, expected, **subject.tolerance[shape.dtype])


def anything(examples: int):
    """Decorate a test of (subject, spans, shape, window, threads, seed) to run for so many drawn cases."""
    drawn = given(
        spans=st.lists(st.tuples(st.integers(0, 700), st.integers(1, 80)), min_size=1, max_size=5),
        shape=st.builds(
            lambda dtype, group, kv_heads, head_dim, page: AttentionNeeds(
                "cpu", dtype, group * kv_heads, kv_heads, head_dim, page
            ),
            st.sampled_from(DTYPES),
            st.integers(1, 8),
            st.integers(1, 3),
            st.integers(1, 8).map(lambda n: n * 8),
            st.sampled_from([8, 16, 32, 64]),
        ),
        window=st.one_of(st.none(), st.integers(1, 600)),
        threads=st.integers(1, 3),
        seed=st.integers(0, 1 << 20),
    )
    suppressed = [HealthCheck.differing_executors, HealthCheck.function_scoped_fixture]
    limits = settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=suppressed)
    return lambda test: limits(drawn(test))


class Conformance:
    """Shapes, page sizes, windows, lengths at every border, and what hypothesis finds."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("window", [None, 7, 64, 600])
    def test_mixed_rows(self, subject: Subject, dtype: torch.dtype, window: int | None) -> None:
        check(subject, needs(dtype), MIXED, window)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("head_dim", [8, 32, 64, 72, 80, 96, 128, 256])
    def test_head_dims(self, subject: Subject, dtype: torch.dtype, head_dim: int) -> None:
        check(subject, needs(dtype, head_dim=head_dim), [(0, 70), (130, 1), (511, 3)])

    @pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (3, 1), (6, 2), (8, 2), (16, 2), (5, 1), (80, 1)])
    def test_groups(self, subject: Subject, heads: int, kv_heads: int) -> None:
        check(subject, needs(subject.half, heads, kv_heads, 32), [(100, 20), (600, 1)], 300)

    @pytest.mark.parametrize("page_tokens", [8, 16, 32, 64])
    @pytest.mark.parametrize("window", [None, 90])
    def test_page_sizes(self, subject: Subject, page_tokens: int, window: int | None) -> None:
        check(subject, needs(page_tokens=page_tokens), MIXED, window)

    @pytest.mark.parametrize("length", [1, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 2049])
    def test_borders(self, subject: Subject, length: int) -> None:
        check(subject, needs(heads=2, kv_heads=1, head_dim=32), [(length - 1, 1), (length, 1), (length, 3)])

    @pytest.mark.parametrize("needle", [3, 700, 1200])
    def test_a_score_far_above_the_others(self, subject: Subject, needle: int) -> None:
        shape = needs(heads=4, kv_heads=1, head_dim=32)
        case = make_case(shape, [(1290, 10)])
        (sequence,) = case.sequences
        sequence.q_LHD.fill_(30.0)
        sequence.k_LGD[needle].fill_(30.0)  # its score is over 5000; an unguarded exponential overflows at 89
        torch.testing.assert_close(subject.run(case), sequence.v_LGD[needle].expand(10, 4, 32))

    @anything(60)
    def test_anything(
        self, subject: Subject, spans: Spans, shape: AttentionNeeds, window: int | None, threads: int, seed: int
    ) -> None:
        check(subject, shape, spans, window, threads, seed)
