"""How matrix products and activations are computed: as fast as torch can, or independent of the batch.

Shapes: T rows, K inputs, N outputs, F width of an activation.

A matrix library picks its kernel, and so its order of summation, by the shape of the product. A token's
result then depends on how many other tokens share the step. ``BatchInvariant`` computes only products of a
few fixed shapes whose rows were seen, on this machine, to come out the same bit for bit.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch.nn import functional

from infergc.config import ConfigError

TILES = (8, 16, 32, 64, 128, 256)
_SERIAL_ELEMENTS = 32768  # torch splits elementwise work of at least this many elements between threads


class Numerics(Protocol):
    """The operations of a decoder whose rounding can depend on the batch."""

    def linear(self, x_TK: torch.Tensor, weight_NK: torch.Tensor, bias_N: torch.Tensor | None) -> torch.Tensor:
        """``x @ weight.T + bias``, ``[T, N]``."""
        ...

    def silu(self, x_TF: torch.Tensor) -> torch.Tensor:
        """``x * sigmoid(x)``, ``[T, F]``; x may be a slice of the columns of a wider matrix."""
        ...


class Fast:
    """Torch's own choice of kernels."""

    def linear(self, x_TK: torch.Tensor, weight_NK: torch.Tensor, bias_N: torch.Tensor | None) -> torch.Tensor:
        """See ``Numerics``."""
        return functional.linear(x_TK, weight_NK, bias_N)

    def silu(self, x_TF: torch.Tensor) -> torch.Tensor:
        """See ``Numerics``."""
        return functional.silu(x_TF)


class BatchInvariant:
    """Every row's result is bitwise the same, whatever rows are computed with it and wherever it stands.

    Linears run in zero-padded tiles of exactly 8, 16, … 256 rows. For each weight shape the sizes that are
    used are those that agree: see ``agreeing_tiles``. Activations run in blocks that torch does not split
    between threads, since an element at the end of a thread's share is computed by scalar code whose
    exponential may differ from the vector code's in the last bit.

    Args:
        weights: the matrices that will be passed to ``linear``; each distinct shape is measured once.

    Raises:
        ConfigError: for some shape no tile size gives position-independent rows on this machine.
    """

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        self._tiles: dict[tuple[int, ...], tuple[int, ...]] = {}
        for weight_NK in weights:
            if weight_NK.shape not in self._tiles:
                self._tiles[weight_NK.shape] = agreeing_tiles(weight_NK)

    def linear(self, x_TK: torch.Tensor, weight_NK: torch.Tensor, bias_N: torch.Tensor | None) -> torch.Tensor:
        """See ``Numerics``."""
        y_TN = x_TK.new_empty(len(x_TK), len(weight_NK))
        for start, stop, size in _cut(len(x_TK), self._tiles[weight_NK.shape]):
            tile_RK = x_TK.new_zeros(size, x_TK.shape[1])  # a fresh copy also fixes the memory's alignment
            tile_RK[: stop - start] = x_TK[start:stop]
            y_TN[start:stop] = functional.linear(tile_RK, weight_NK)[: stop - start]
        return y_TN if bias_N is None else y_TN.add_(bias_N)

    def silu(self, x_TF: torch.Tensor) -> torch.Tensor:
        """See ``Numerics``."""
        rows = max(1, (_SERIAL_ELEMENTS - 1) // x_TF.shape[1])
        return torch.cat([functional.silu(block_BF) for block_BF in torch.split(x_TF, rows)])


def agreeing_tiles(weight_NK: torch.Tensor) -> tuple[int, ...]:
    """The largest set of tile sizes that give one and the same result for a row, at every place in the tile.

    Each size is tried with a tile of equal rows: its output rows must be equal bit for bit, and equal to
    those of the other sizes. Costs about 500 rows of one product.

    Raises:
        ConfigError: no size has equal rows.
    """
    generator = torch.Generator().manual_seed(0)
    row_K = torch.randn(weight_NK.shape[1], generator=generator).to(weight_NK.dtype)
    agreeing: dict[bytes, list[int]] = {}  # bits of the row's result → the sizes that give it
    for size in TILES:
        y_RN = functional.linear(row_K.expand(size, -1).contiguous(), weight_NK)
        if torch.equal(y_RN, y_RN[:1].expand_as(y_RN)):
            bits = y_RN[0].view(torch.uint8).numpy().tobytes()
            agreeing.setdefault(bits, []).append(size)
    if not agreeing:
        raise ConfigError(
            f"--deterministic: matrix products of shape {tuple(weight_NK.shape)} in {weight_NK.dtype} depend on "
            "the row's place here; try another --dtype or --threads"
        )
    largest: list[int] = max(agreeing.values(), key=len)
    return tuple(largest)


def _cut(rows: int, tiles: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Cut rows into (start, stop, tile size): the smallest tile that holds the rest, at most the largest."""
    start = 0
    while start < rows:
        rest = rows - start
        size = next((tile for tile in tiles if tile >= rest), tiles[-1])
        stop = start + min(rest, size)
        yield start, stop, size
        start = stop
