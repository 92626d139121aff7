"""Key outliers that change no score: what is planted in the keys is taken out of the queries, or read by none."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from induction_model.circuit import Array, Layout
from induction_model.shape import Shape, ShapeError

Pairs = npt.NDArray[np.int64]
MOST_SCALE = MOST_OFFSET = 256.0  # keys times this are finite in float16


@dataclass(frozen=True)
class Outliers:
    """What to plant in each layer.

    Attributes:
        pairs: pairs of channels that are scaled, of those that queries read.
        scale: keys are multiplied by it there, queries divided.
        offset: added to one channel of every key that no query reads.
    """

    pairs: int = 0
    scale: float = 1.0
    offset: float = 0.0

    def check(self, shape: Shape) -> None:
        """Raise ShapeError, naming the flag, where this cannot be planted in such a model."""
        most = min(len(_position_pairs(shape)), len(_code_pairs(shape)))
        if not 0 <= self.pairs <= most:
            raise ShapeError(f"--key-outliers takes 0 to {most} with these sizes, not {self.pairs}")
        if not 1.0 <= self.scale <= MOST_SCALE:
            raise ShapeError(f"--outlier-scale takes 1 to {MOST_SCALE:g}, not {self.scale:g}")
        if self.scale != 1.0 and not self.pairs:
            raise ShapeError("--outlier-scale says how far --key-outliers stand out; give that, too")
        if not 0.0 <= self.offset <= MOST_OFFSET:
            raise ShapeError(f"--key-offset takes 0 to {MOST_OFFSET:g}, not {self.offset:g}")

    def plant(self, tensors: Mapping[str, Array], shape: Shape, seed: int) -> None:
        """Change the weights in place; the seed says which pairs.

        Rotation turns the channels of a pair into each other, so both are scaled alike: q · k stays what it was, to
        the bit where the scale is a power of two.
        """
        draw = np.random.default_rng((seed, 1))
        layers = len(shape.gathering)
        for layer in range(layers + 1):
            queries, keys = (tensors[f"model.layers.{layer}.self_attn.{name}_proj.weight"] for name in "qk")
            chosen = draw.permutation(_position_pairs(shape) if layer < layers else _code_pairs(shape))[: self.pairs]
            channels = np.concatenate((chosen, chosen + shape.pairs))
            keys[channels] *= self.scale
            queries[channels] /= self.scale
            unread = shape.fast_pairs if layer < layers else shape.fast_pairs - 1
            keys[unread] += self.offset * Layout(shape).one


def _position_pairs(shape: Shape) -> Pairs:
    """The pairs of channels by which all layers but the last find their token."""
    return np.arange(shape.fast_pairs)


def _code_pairs(shape: Shape) -> Pairs:
    """Those that hold codes in the last layer, without the sink's."""
    return np.arange(shape.pairs - 1 - (shape.match * shape.code - 1) // 2, shape.pairs - 1)
