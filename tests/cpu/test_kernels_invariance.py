"""The bits of a token's output depend on its query and its keys and values, and on nothing else."""

import pytest
import torch

from cpu.kernel_cases import make_case, needs, run, spread
from cpu.kernel_invariance import Invariance, same_bits, windowed
from cpu.kernel_isas import ISAS
from cpu.kernel_subjects import REFERENCE, Subject, cpu
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.cpu.backend import CpuAttention
from infergc.kernels.cpu.threads import CpuThreads

pytestmark = pytest.mark.usefixtures("one_thread")

DTYPES = [torch.float32, torch.bfloat16]
SHAPES = [needs(dtype, heads=6, kv_heads=2, head_dim=dim) for dtype in DTYPES for dim in (64, 72)]

shaped = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.dtype}-{s.head_dim}")


@pytest.fixture(params=[*ISAS, "reference"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """An instruction set, or the reference."""
    return REFERENCE if request.param == "reference" else cpu(request.param)


@shaped
class TestOnTheCpu(Invariance):
    """Each instruction set by itself, and the reference."""


@pytest.mark.parametrize("isa", ISAS)
@shaped
@windowed
def test_threads(isa: str, shape: AttentionNeeds, window: int | None) -> None:
    case = make_case(shape, Invariance.spans, window)
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
