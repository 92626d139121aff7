"""The dense work of a decoder in C++: right, and bit for bit the same whatever is computed beside a row."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cpu.kernel_isas import ISAS
from infergc.config import ConfigError
from infergc.kernels import registry
from infergc.kernels.api import DenseOps, Rotation
from infergc.kernels.cpu import library
from infergc.kernels.cpu.dense import CpuOps
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.torch_ops import TorchOps

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((1, 1), (64, 96), (77, 130), (515, 33), (2049, 65), (768, 1))  # inputs, outputs: over and under every block
ROWS = (1, 2, 5, 6, 7, 12, 13, 31, 96, 97, 193, 300)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}

every_isa = pytest.mark.parametrize("isa", ISAS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    error = (actual.double() - expected.double()).abs().max() / expected.double().abs().max()
    assert actual.dtype == expected.dtype
    assert error <= TOLERANCE[actual.dtype]


@every_isa
@every_dtype
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("biased", [False, True])
def test_products_are_torchs(isa: str, dtype: torch.dtype, inputs: int, outputs: int, biased: bool) -> None:
    ops, weight_NK = CpuOps(dtype, CpuThreads(2), isa), normal(outputs, inputs, dtype=dtype)
    bias_N = 9 * normal(outputs, dtype=dtype) if biased else None
    matrix = ops.pack(weight_NK, bias_N)
    for rows in ROWS[::3]:
        x_TK = normal(rows, inputs, dtype=dtype)
        expected = torch.nn.functional.linear(x_TK.double(), weight_NK.double(), bias_N.double() if biased else None)
        close(ops.linear(x_TK, matrix), expected.to(dtype))
    ids_T = torch.arange(outputs).flip(0)
    assert torch.equal(ops.embed(ids_T, matrix), weight_NK[ids_T])


@every_isa
@every_dtype
def test_rows_are_the_same_alone_and_in_every_batch(isa: str, dtype: torch.dtype) -> None:
    """Whatever the threads, too, and wherever the rows lie in memory."""
    weight_NK, x_TK = normal(130, 515, dtype=dtype), normal(max(ROWS), 515, dtype=dtype)
    ops = CpuOps(dtype, CpuThreads(1), isa)
    matrix = ops.pack(weight_NK, None)
    alone_TN = torch.cat([ops.linear(row_K[None], matrix) for row_K in x_TK])
    for threads in (1, 2, 3):
        others = CpuOps(dtype, CpuThreads(threads), isa)
        for rows in ROWS:
            assert torch.equal(others.linear(x_TK[:rows], others.pack(weight_NK, None)), alone_TN[:rows])
    wider_TK = torch.cat([normal(max(ROWS), 3, dtype=dtype), x_TK], dim=1)
    assert torch.equal(ops.linear(wider_TK[:, 3:], matrix), alone_TN)


Case = Callable[[DenseOps, torch.Tensor], torch.Tensor]


def add_norm(ops: DenseOps, x_TE: torch.Tensor) -> torch.Tensor:
    hidden_TE, weight_E = x_TE.clone(), normal(x_TE.shape[1], dtype=x_TE.dtype)
    out_TE = ops.add_norm(hidden_TE, x_TE.flip(1).contiguous(), weight_E, 1e-6)
    return torch.cat([out_TE, hidden_TE], dim=1)


def only_norm(ops: DenseOps, x_TE: torch.Tensor) -> torch.Tensor:
    return ops.add_norm(x_TE.clone(), None, normal(x_TE.shape[1], dtype=x_TE.dtype), 0.3)


def silu_mul(ops: DenseOps, x_TE: torch.Tensor) -> torch.Tensor:
    return ops.silu_mul((6 * torch.cat([x_TE, x_TE.flip(1)], dim=1)).contiguous())


def rotated(ops: DenseOps, x_TE: torch.Tensor, *, normed: bool) -> torch.Tensor:
    """Heads in the middle of wider rows; what lies beside them stays."""
    rows, dims = len(x_TE), x_TE.shape[1] // 4
    dims -= dims % 2
    x_THD = x_TE[:, : 4 * dims].contiguous().view(rows, 4, dims).clone()
    angle_TR = torch.arange(rows)[:, None] * torch.arange(1, dims // 2 + 1) / 7
    weights = [normal(dims, dtype=x_TE.dtype), normal(dims + 1, dtype=x_TE.dtype)[1:]] if normed else [None, None]
    rotation = Rotation(angle_TR.cos().to(x_TE.dtype), angle_TR.sin().to(x_TE.dtype), 2, *weights, 1e-6)
    ops.rotate(x_THD[:, :3], rotation)
    return x_THD.flatten(1)


CASES: dict[str, Case] = {
    "add_norm": add_norm,
    "norm": only_norm,
    "silu_mul": silu_mul,
    "rotate": lambda ops, x_TE: rotated(ops, x_TE, normed=False),
    "rotate_normed": lambda ops, x_TE: rotated(ops, x_TE, normed=True),
}


@every_isa
@every_dtype
@pytest.mark.parametrize("width", [8, 72, 131, 768])
@pytest.mark.parametrize("case", CASES)
def test_row_operations_are_torchs(isa: str, dtype: torch.dtype, width: int, case: str) -> None:
    x_TE = normal(70, width, dtype=dtype)
    close(CASES[case](CpuOps(dtype, CpuThreads(2), isa), x_TE), CASES[case](TorchOps(), x_TE))


@every_isa
@every_dtype
@pytest.mark.parametrize("case", ["add_norm", "silu_mul", "rotate_normed"])
def test_row_operations_do_not_depend_on_the_rows_beside(isa: str, dtype: torch.dtype, case: str) -> None:
    x_TE = normal(300, 96, dtype=dtype)
    whole = CASES[case](CpuOps(dtype, CpuThreads(3), isa), x_TE)
    for rows in (1, 2, 17, 299):
        assert torch.equal(CASES[case](CpuOps(dtype, CpuThreads(1), isa), x_TE[:rows]), whole[:rows])


@every_isa
def test_bfloat16_keeps_what_is_not_a_number(isa: str) -> None:
    x_TE = torch.tensor([[float("nan"), 1.0, float("inf"), -float("inf")] * 8]).bfloat16()
    found = CpuOps(torch.bfloat16, CpuThreads(1), isa).silu_mul(torch.cat([x_TE, torch.ones_like(x_TE)], dim=1))
    assert found[0, 0].isnan()
    assert found[0, 2] == float("inf")


def test_what_does_not_fit_is_refused() -> None:
    ops = CpuOps(torch.float32, CpuThreads(1))
    matrix = ops.pack(normal(16, 8), None)
    with pytest.raises(ValueError, match="9 inputs, but the matrix has 8"):
        ops.linear(normal(2, 9), matrix)
    with pytest.raises(ValueError, match="each contiguous"):
        ops.linear(normal(2, 8).double(), matrix)
    with pytest.raises(ValueError, match="each contiguous"):
        ops.linear(normal(8, 2).T, matrix)
    for wrong in (16, -1):
        with pytest.raises(IndexError, match="vocabulary size, 16"):
            ops.embed(torch.tensor([0, wrong]), matrix)
    for strided in (torch.zeros(4, 2, dtype=torch.int64)[:, 0], torch.zeros(4, dtype=torch.int32)):
        with pytest.raises(ValueError, match="contiguous int64 ids"):
            ops.embed(strided, matrix)
    cos_TR = torch.ones(2, 4)
    with pytest.raises(ValueError, match="side by side"):
        ops.rotate(normal(2, 8, 3).transpose(1, 2), Rotation(cos_TR, cos_TR, 2, None, None, 1e-6))
    with pytest.raises(ValueError, match="'sse9' does not run here"):
        CpuOps(torch.float32, CpuThreads(1), "sse9")


def test_tensors_of_another_shape_or_type_are_refused() -> None:
    """What the C++ side would read past its end, or as something else."""
    ops, x_TE, one_E = CpuOps(torch.bfloat16, CpuThreads(1)), normal(4, 8).bfloat16(), torch.ones(8).bfloat16()
    rotation = Rotation(torch.ones(2, 2).bfloat16(), torch.ones(2, 2).bfloat16(), 2, None, None, 1e-6)
    calls: list[Callable[[], object]] = [
        lambda: ops.pack(x_TE, torch.ones(4)),
        lambda: ops.pack(x_TE, one_E[:3]),
        lambda: ops.add_norm(normal(8, 4).bfloat16().T, None, one_E, 1e-6),
        lambda: ops.add_norm(x_TE, x_TE[:3], one_E, 1e-6),
        lambda: ops.add_norm(x_TE, None, one_E[:7], 1e-6),
        lambda: ops.add_norm(x_TE, None, one_E.float(), 1e-6),
        lambda: ops.silu_mul(normal(8, 4).bfloat16().T),
        lambda: ops.rotate(normal(2, 3, 8).bfloat16(), rotation),
        lambda: ops.rotate(normal(2, 3, 4).bfloat16(), replace(rotation, q_norm_D=one_E)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"expected contiguous torch.bfloat16"):
            call()


def test_without_the_library_torch_computes_and_deterministic_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(registry.create_ops(torch.float32, CpuThreads(1), deterministic=True), CpuOps)
    library.load.cache_clear()
    monkeypatch.setattr(library, "PATH", library.PATH.with_name("absent.so"))
    try:
        assert isinstance(registry.create_ops(torch.float32, CpuThreads(1), deterministic=False), TorchOps)
        with pytest.raises(ConfigError, match=r"--deterministic: .*not compiled"):
            registry.create_ops(torch.float32, CpuThreads(1), deterministic=True)
    finally:
        library.load.cache_clear()
