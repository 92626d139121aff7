"""How fast a machine does what a model's steps consist of, as plain data: measured by a worker, read by the bench."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttentionCost:
    """What attention of one layer costs, whatever computes it.

    Attributes:
        pair_flops: floating-point operations for one query that sees one key, over all heads.
        position_bytes: of K and V of one position.
        windows: one entry a layer: sliding window in tokens, None for full attention.
    """

    pair_flops: int
    position_bytes: int
    windows: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class MachineRates:
    """What was measured.

    Attributes:
        layers: rows → seconds of the matrix products of all layers, nothing else.
        head: rows → seconds of the product with the output matrix.
        packing: ``"shape @ rows"`` → which way of laying out the weight was fastest.
        matrix_flops: floating-point operations a second of the fastest product.
        read_bytes: bytes a second that all threads together read from memory.
        weight_bytes: of the matrices that one token's pass reads; of the embedding it reads a row.
        attention: what the model's attention costs.
    """

    layers: dict[int, float]
    head: dict[int, float]
    packing: dict[str, str]
    matrix_flops: float
    read_bytes: float
    weight_bytes: int
    attention: AttentionCost
