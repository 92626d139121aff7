"""The dense work around attention in Triton, under its interpreter: as torch does it, row by row."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from cpu.dense_cases import CASES, WIDTHS, DenseSubject, rotation_of, strided
from cpu.triton_interpreter import TritonOps
from infergc.kernels import registry
from infergc.kernels.cpu.dense import CpuOps
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.torch_ops import TorchOps
from infergc.kernels.triton import environment

SUBJECT = DenseSubject(TritonOps(), "cpu")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
every_case = pytest.mark.parametrize("case", CASES)


@every_dtype
@every_case
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_torchs(dtype: torch.dtype, case: str, width: int) -> None:
    SUBJECT.equals_torch(case, SUBJECT.numbers(3, width, dtype))


@every_dtype
@every_case
def test_rows_stand_alone(dtype: torch.dtype, case: str) -> None:
    SUBJECT.rows_stand_alone(case, SUBJECT.numbers(12, 72, dtype))


@every_case
def test_no_tokens(case: str) -> None:
    none = CASES[case](SUBJECT.ops, torch.empty(0, 16))
    assert none.shape == CASES[case](TorchOps(), torch.empty(0, 16)).shape


def test_the_sum_is_kept_and_the_norm_is_of_what_is_kept() -> None:
    """2048 + 1 is 2048 in float16: whoever normed the sum before it was rounded would see the one."""
    hidden, delta = torch.full((1, 8), 2048.0).half(), torch.tensor([[1.0, 3.0] * 4]).half()
    expected = hidden + delta
    out = SUBJECT.ops.add_norm(hidden, delta, torch.ones(8).half(), 1e-6)
    assert torch.equal(hidden, expected)
    assert torch.equal(out, TorchOps().add_norm(expected, None, torch.ones(8).half(), 1e-6))


def test_gates_that_are_great_or_no_numbers() -> None:
    gate = torch.tensor([[-200.0, 200.0, float("inf"), -float("inf"), float("nan"), 0.0, -20.0, 3.0]])
    both = torch.cat([gate, torch.full_like(gate, 2.0)], dim=1)
    with np.errstate(over="ignore", invalid="ignore"):  # of the interpreter's exponentials
        found = SUBJECT.ops.silu_mul(both)
    torch.testing.assert_close(found, TorchOps().silu_mul(both), equal_nan=True)


def test_heads_beyond_the_rotated_ones_and_angles_of_their_tokens() -> None:
    """Token 0 is not turned, and a quarter turn exchanges the halves."""
    x_THD = torch.arange(2 * 1 * 4, dtype=torch.float32).view(2, 1, 4)
    cos_TR, sin_TR = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    rotation = replace(rotation_of(torch.zeros(2, 4), 4, 1, ""), cos_TR=cos_TR, sin_TR=sin_TR)
    SUBJECT.ops.rotate(x_THD, rotation)
    assert x_THD.tolist() == [[[0, 1, 2, 3]], [[-6, -7, 4, 5]]]


def test_products_and_embeddings_are_torchs() -> None:
    ops, x_TK, weight_NK, bias_N = SUBJECT.ops, torch.randn(3, 8), torch.randn(5, 8), torch.randn(5)
    assert torch.equal(ops.linear(x_TK, ops.pack(weight_NK, bias_N)), x_TK @ weight_NK.T + bias_N)
    assert torch.equal(ops.embed(torch.tensor([4, 0]), ops.pack(weight_NK, None)), weight_NK[[4, 0]])


def calls() -> dict[str, Callable[[], object]]:
    """What kernels would read past its end, or as something else."""
    ops, x_TE, one_E = SUBJECT.ops, torch.ones(4, 8), torch.ones(8)
    x_THD, rotation = x_TE.view(4, 2, 4), rotation_of(x_TE, 4, 1, "q")
    return {
        "columns": lambda: ops.add_norm(x_TE.T.contiguous().T, None, one_E, 1e-6),
        "fewer rows": lambda: ops.add_norm(x_TE, x_TE[:3], one_E, 1e-6),
        "another dtype": lambda: ops.add_norm(x_TE, x_TE.half(), one_E, 1e-6),
        "short weight": lambda: ops.add_norm(x_TE, None, one_E[:7], 1e-6),
        "odd halves": lambda: ops.silu_mul(torch.ones(4, 7)),
        "gaps": lambda: ops.silu_mul(torch.ones(4, 16)[:, ::2]),
        "odd head": lambda: ops.rotate(torch.ones(4, 2, 5), rotation),
        "angles of fewer tokens": lambda: ops.rotate(x_THD, replace(rotation, cos_TR=rotation.cos_TR[:3])),
        "angles in wider rows": lambda: ops.rotate(x_THD, replace(rotation, sin_TR=strided(rotation.sin_TR))),
        "short norm": lambda: ops.rotate(x_THD, replace(rotation, q_norm_D=one_E[:3])),
    }


@pytest.mark.parametrize("name", calls())
def test_tensors_of_another_shape_dtype_or_layout_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"lie side by side|without a stride"):
        calls()[name]()


# ---- who computes


def test_a_gpu_is_given_the_kernels_and_a_cpu_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "INTERPRETED", False)
    monkeypatch.setattr(environment, "unavailable", lambda: None)
    assert isinstance(registry.create_gpu_ops(), TritonOps)
    assert isinstance(registry.create_ops(torch.float32, CpuThreads(1), deterministic=False), CpuOps)


@pytest.mark.parametrize("reason", ["TRITON_INTERPRET is set", "too old"])
def test_where_triton_does_not_run_torch_computes_and_that_is_told(
    reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if reason == "too old":
        monkeypatch.setattr(environment, "INTERPRETED", False)
        monkeypatch.setattr(environment, "unavailable", lambda: reason)
    with caplog.at_level(logging.WARNING):
        assert type(registry.create_gpu_ops()) is TorchOps
    assert f"run in torch, each in several kernels ({reason}" in caplog.text
