"""Every compiled instruction set against the reference, and the reference against torch's own attention."""

import pytest
import torch

from cpu.kernel_cases import TOLERANCE, make_case, needs, run
from cpu.kernel_conformance import DTYPES, Conformance
from cpu.kernel_isas import ISAS
from cpu.kernel_subjects import Subject, cpu
from infergc.kernels.reference import ReferenceAttention

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=ISAS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """An instruction set."""
    return cpu(request.param)


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


class TestInstructionSets(Conformance):
    """Each instruction set by itself."""
