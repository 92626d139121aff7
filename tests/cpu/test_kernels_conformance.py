"""Every compiled instruction set against the reference, and the reference against torch's own attention."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpu.kernel_cases import TOLERANCE, Case, make_case, needs, run
from cpu.kernel_isas import ISAS
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.cpu.backend import CpuAttention
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.reference import ReferenceAttention

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
MIXED = [(0, 40), (700, 1), (1023, 1), (500, 17), (0, 1), (1020, 9), (63, 2), (15, 1), (16, 1)]


Spans = list[tuple[int, int]]


@cache
def expectation(
    shape: AttentionNeeds, spans: tuple[tuple[int, int], ...], window: int | None, seed: int
) -> tuple[Case, torch.Tensor]:
    """Draw a case and ask the reference, once for all instruction sets."""
    case = make_case(shape, list(spans), window, seed)
    return case, run(ReferenceAttention(shape), case)


def check(
    isa: str, shape: AttentionNeeds, spans: Spans, window: int | None = None, threads: int = 2, seed: int = 0
) -> None:
    """Compare an instruction set with the reference on the same case."""
    case, expected = expectation(shape, tuple(spans), window, seed)
    actual = run(CpuAttention(shape, CpuThreads(threads), isa), case)
    assert not expected.isnan().any()
    torch.testing.assert_close(actual, expected, **TOLERANCE[shape.dtype])


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Spare the reference's many small operations the hand-over between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [None, 100])
def test_reference_equals_torch(dtype: torch.dtype, window: int | None) -> None:
    shape = needs(dtype, heads=6, kv_heads=2, head_dim=32)
    case = make_case(shape, [(0, 200)], window)
    q, k, v = (x.transpose(0, 1).double() for x in vars(case.sequences[0]).values())
    position = torch.arange(200)
    distance = position[:, None] - position
    seen = (distance >= 0) & (distance < (window or 200))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, seen, enable_gqa=True).transpose(0, 1)
    actual = run(ReferenceAttention(shape), case)
    torch.testing.assert_close(actual.double(), expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [None, 7, 64, 600])
def test_mixed_rows(isa: str, dtype: torch.dtype, window: int | None) -> None:
    check(isa, needs(dtype), MIXED, window)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head_dim", [8, 32, 64, 72, 80, 96, 128, 256])
def test_head_dims(isa: str, dtype: torch.dtype, head_dim: int) -> None:
    check(isa, needs(dtype, head_dim=head_dim), [(0, 70), (130, 1), (511, 3)])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (3, 1), (6, 2), (8, 2), (16, 2), (5, 1), (80, 1)])
def test_groups(isa: str, heads: int, kv_heads: int) -> None:
    check(isa, needs(torch.bfloat16, heads, kv_heads, 32), [(100, 20), (600, 1)], 300)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("page_tokens", [8, 16, 32, 64])
def test_page_sizes(isa: str, page_tokens: int) -> None:
    check(isa, needs(page_tokens=page_tokens), MIXED, 90)
    check(isa, needs(page_tokens=page_tokens), MIXED)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("length", [1, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 2049])
def test_borders(isa: str, length: int) -> None:
    check(isa, needs(heads=2, kv_heads=1, head_dim=32), [(length - 1, 1), (length, 1), (length, 3)])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("needle", [3, 700, 1200])
def test_a_score_far_above_the_others(isa: str, needle: int) -> None:
    shape = needs(heads=4, kv_heads=1, head_dim=32)
    case = make_case(shape, [(1290, 10)])
    (sequence,) = case.sequences
    sequence.q_LHD.fill_(30.0)
    sequence.k_LGD[needle].fill_(30.0)  # its score is over 5000; an unguarded exponential overflows at 89
    actual = run(CpuAttention(shape, CpuThreads(2), isa), case)
    torch.testing.assert_close(actual, sequence.v_LGD[needle].expand(10, 4, 32))


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture],
)
@given(
    spans=st.lists(st.tuples(st.integers(0, 700), st.integers(1, 80)), min_size=1, max_size=5),
    shape=st.builds(
        lambda dtype, group, kv_heads, head_dim, page: AttentionNeeds(
            "cpu", dtype, group * kv_heads, kv_heads, head_dim * 8, page
        ),
        st.sampled_from(DTYPES),
        st.integers(1, 8),
        st.integers(1, 3),
        st.integers(1, 8),
        st.sampled_from([8, 16, 32, 64]),
    ),
    window=st.one_of(st.none(), st.integers(1, 600)),
    threads=st.integers(1, 3),
    seed=st.integers(0, 1 << 20),
)
@pytest.mark.parametrize("isa", ISAS)
def test_anything(
    isa: str,
    spans: Spans,
    shape: AttentionNeeds,
    window: int | None,
    threads: int,
    seed: int,
) -> None:
    check(isa, shape, spans, window, threads, seed)
