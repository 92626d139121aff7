"""The dense work around attention in Triton, compiled, on a GPU: as torch does it there, row by row."""

import pytest
import torch

from cpu.dense_cases import CASES, WIDTHS, DenseSubject
from samples.gpu_here import needs_kernels

pytestmark = needs_kernels
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def subject() -> DenseSubject:
    from infergc.kernels.triton.dense import TritonOps  # noqa: PLC0415 - not where Triton is missing

    return DenseSubject(TritonOps(), "cuda")


@every_dtype
@every_case
@pytest.mark.parametrize("width", [*WIDTHS, 4096, 8192])
def test_it_is_torchs(subject: DenseSubject, dtype: torch.dtype, case: str, width: int) -> None:
    subject.equals_torch(case, subject.numbers(70, width, dtype))


@every_dtype
@every_case
@pytest.mark.parametrize("width", [72, 4096])
def test_rows_stand_alone(subject: DenseSubject, dtype: torch.dtype, case: str, width: int) -> None:
    subject.rows_stand_alone(case, subject.numbers(40, width, dtype))
