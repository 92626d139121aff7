"""What --deterministic stands on: results that do not depend on the rest of the batch, bit for bit."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.nn import functional

from infergc.config import ConfigError
from infergc.models import numerics
from infergc.models.numerics import TILES, BatchInvariant, agreeing_tiles
from infergc.models.rope import RopeTable, rotate
from infergc.models.spec import RopeSpec

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((64, 96), (128, 64), (77, 130), (300, 257), (256, 515))  # inputs, outputs
BATCHES = (1, 2, 7, 8, 9, 31, 64, 100, 255, 256, 257, 300)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_a_row_is_the_same_at_every_place_of_every_tile(
    inputs: int, outputs: int, dtype: torch.dtype, threads: int
) -> None:
    weight_NK, bias_N = normal(outputs, inputs, dtype=dtype), normal(outputs, dtype=dtype)
    row_K, others_RK = normal(inputs, dtype=dtype), normal(max(TILES), inputs, dtype=dtype)
    invariant = BatchInvariant([weight_NK])
    expected_N = invariant.linear(row_K[None], weight_NK, bias_N)[0]
    for size in TILES:
        for parity in (0, 1):  # the row at all even places, then at all odd ones, other rows between
            x_RK = others_RK[:size].clone()
            x_RK[parity::2] = row_K
            found_RN = invariant.linear(x_RK, weight_NK, bias_N)[parity::2]
            assert torch.equal(found_RN, expected_N.expand_as(found_RN)), size


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_the_same_alone_and_in_every_batch(dtype: torch.dtype, threads: int) -> None:
    weight_NK, x_TK = normal(130, 96, dtype=dtype), normal(max(BATCHES), 96, dtype=dtype)
    invariant = BatchInvariant([weight_NK])
    alone_TN = torch.cat([invariant.linear(row_K[None], weight_NK, None) for row_K in x_TK])
    for batch in BATCHES:
        assert torch.equal(invariant.linear(x_TK[:batch], weight_NK, None), alone_TN[:batch])
    # Elsewhere in memory, too: rows of a wider matrix, off the alignment of fresh tensors.
    shifted_TK = torch.cat([normal(1, 96, dtype=dtype), x_TK])[1:]
    assert torch.equal(invariant.linear(shifted_TK, weight_NK, None), alone_TN)
    torch.testing.assert_close(alone_TN, functional.linear(x_TK, weight_NK), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("width", [96, 100, 77, 2048])
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_are_the_same_alone_and_in_every_batch(width: int, dtype: torch.dtype, threads: int) -> None:
    gate_up_TF = 3 * normal(130, 2 * width, dtype=dtype)
    invariant = BatchInvariant([])
    alone_TF = torch.cat([invariant.silu(row_F[None, :width]) for row_F in gate_up_TF])
    for batch in (2, 17, 64, 100, 110, 130):
        assert torch.equal(invariant.silu(gate_up_TF[:batch, :width]), alone_TF[:batch])
    torch.testing.assert_close(alone_TF, functional.silu(gate_up_TF[:, :width]))


def norm(x: torch.Tensor) -> torch.Tensor:
    x_f32 = x.float()
    return x_f32 * torch.rsqrt(x_f32.square().mean(-1, keepdim=True) + 1e-6)


def turned(x: torch.Tensor) -> torch.Tensor:
    cos_T1R, sin_T1R = RopeTable(RopeSpec(), 16, x.dtype).at(torch.arange(len(x)))
    return rotate(x.view(len(x), -1, 16), cos_T1R, sin_T1R)


@pytest.mark.parametrize("operation", [norm, turned, lambda x: torch.softmax(x.float(), -1)])
@pytest.mark.parametrize("width", [112, 2048])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_both_modes_share_is_row_by_row_already(
    operation: Callable[[torch.Tensor], torch.Tensor], width: int, dtype: torch.dtype, threads: int
) -> None:
    x_TE = normal(200, width, dtype=dtype)
    whole = operation(x_TE)
    for batch in (1, 2, 17, 133):
        assert torch.equal(operation(x_TE[:batch]), whole[:batch])
    if operation is not turned:  # which depends on the position
        assert torch.equal(torch.cat([operation(row_E[None]) for row_E in x_TE]), whole)


def linear_that_differs(at: Callable[[int], bool]) -> Callable[..., torch.Tensor]:
    def linear(x_RK: torch.Tensor, weight_NK: torch.Tensor) -> torch.Tensor:
        y_RN = functional.linear(x_RK, weight_NK)
        y_RN[-1] += at(len(x_RK))
        return y_RN

    return linear


def test_sizes_whose_rows_differ_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = linear_that_differs(at=lambda rows: rows in {8, 64})
    monkeypatch.setattr(numerics, "functional", type("F", (), {"linear": staticmethod(broken)}))
    assert not {8, 64} & set(agreeing_tiles(normal(96, 64)))


def test_a_machine_without_a_sound_tile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = linear_that_differs(at=bool)
    monkeypatch.setattr(numerics, "functional", type("F", (), {"linear": staticmethod(broken)}))
    with pytest.raises(ConfigError, match=r"--deterministic: .*\(96, 64\).*--dtype or --threads"):
        agreeing_tiles(normal(96, 64))
