"""The bits of a token's output depend on its query and its keys and values, and on nothing else."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from cpu.kernel_cases import Case, alone, in_chunks, make_case, needs, run, spread
from cpu.kernel_isas import ISAS
from infergc.kernels.api import AttentionBackend
from infergc.kernels.cpu.backend import CpuAttention
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.reference import ReferenceAttention

DTYPES = [torch.float32, torch.bfloat16]
SHAPES = [needs(dtype, heads=6, kv_heads=2, head_dim=dim) for dtype in DTYPES for dim in (64, 72)]
SPANS = [(0, 33), (1500, 1), (700, 1), (510, 5), (1020, 70), (0, 1), (2047, 1)]
BACKENDS = [*ISAS, "reference"]

parametrized = pytest.mark.parametrize("name", BACKENDS)
shaped = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.dtype}-{s.head_dim}")
windowed = pytest.mark.parametrize("window", [None, 200])


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Spare the reference's many small operations the hand-over between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def backend(name: str, case: Case, threads: int = 2) -> AttentionBackend:
    """Make a backend by instruction set, or the reference."""
    return (
        ReferenceAttention(case.needs) if name == "reference" else CpuAttention(case.needs, CpuThreads(threads), name)
    )


def same_bits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Assert bitwise equality, and that something was computed."""
    assert not expected.isnan().any()
    assert expected.abs().max() > 0.01
    assert torch.equal(actual, expected)


@parametrized
@shaped
@windowed
def test_alone_and_batched(name: str, shape, window) -> None:
    case = make_case(shape, SPANS, window)
    together = run(backend(name, case), case)
    each = [run(backend(name, case), alone(case, row)) for row in range(len(SPANS))]
    same_bits(together, torch.cat(each))


@parametrized
@shaped
@windowed
def test_whole_and_in_chunks(name: str, shape, window) -> None:
    case = make_case(shape, [(0, 1100)], window)
    whole = run(backend(name, case), case)
    same_bits(in_chunks(backend(name, case), case, [1, 16, 63, 7, 430, 64, 500, 19]), whole)


@parametrized
@shaped
@windowed
def test_decode_and_prefill(name: str, shape, window) -> None:
    case = make_case(shape, [(0, 530)], window)
    whole = run(backend(name, case), case)
    same_bits(in_chunks(backend(name, case), case, [490] + [1] * 40), whole)


@parametrized
@shaped
@windowed
def test_page_placement(name: str, shape, window) -> None:
    case = make_case(shape, SPANS, window)
    expected = run(backend(name, case), case)
    for longest, seed in ((1, 5), (3, 6), (200, 7)):
        moved = replace(case, longest_extent=longest, seed=seed)
        same_bits(run(backend(name, case), moved), expected)


@pytest.mark.parametrize("page_tokens", [8, 32, 64])
@pytest.mark.parametrize("isa", ISAS)
def test_page_size(isa: str, page_tokens: int) -> None:
    case = make_case(needs(), SPANS)
    other = replace(case, needs=replace(case.needs, page_tokens=page_tokens))
    same_bits(
        run(CpuAttention(other.needs, CpuThreads(2), isa), other),
        run(CpuAttention(case.needs, CpuThreads(2), isa), case),
    )


@pytest.mark.parametrize("isa", ISAS)
@shaped
@windowed
def test_threads(isa: str, shape, window) -> None:
    case = make_case(shape, SPANS, window)
    expected = run(CpuAttention(shape, CpuThreads(1), isa), case)
    for threads in (2, 3, 7):
        same_bits(run(CpuAttention(shape, CpuThreads(threads), isa), case), expected)


@pytest.mark.parametrize("isa", ISAS)
def test_one_long_row_is_shared_out(isa: str) -> None:
    case = make_case(needs(torch.bfloat16, 4, 1, 64), [(5000, 1)])
    storage = spread(case)
    expected = run(CpuAttention(case.needs, CpuThreads(1), isa), case, storage)
    attention = CpuAttention(case.needs, CpuThreads(4), isa)
    for _ in range(20):  # pieces finish in every order
        same_bits(run(attention, case, storage), expected)


@pytest.mark.parametrize("isa", ISAS)
def test_many_short_calls_with_more_threads_than_work(isa: str) -> None:
    case = make_case(needs(torch.float32, 4, 2, 128), [(700, 1)])
    storage = spread(case)
    expected = run(CpuAttention(case.needs, CpuThreads(1), isa), case, storage)
    attention = CpuAttention(case.needs, CpuThreads(5), isa)
    for _ in range(600):  # workers come too late to many of these
        same_bits(run(attention, case, storage), expected)
