"""A decoder's weights, fused for fewer and larger products, and where each checkpoint tensor goes.

Shapes: V vocabulary, E hidden, F intermediate, H query heads, G KV heads, D head dim.
"""

from dataclasses import dataclass
from typing import Any

import torch

from infergc.kernels.api import PACK_ROWS, DenseOps
from infergc.models.spec import ModelSpec
from infergc.units import ceil_div


class Linear:
    """A matrix: as it is loaded, and from ``pack`` on only as it is multiplied, so that it never exists twice.

    Attributes:
        weight: ``[outputs, inputs]``, to be filled; empty once packed.
        bias: ``[outputs]`` or None.
        matrix: what ``DenseOps.linear`` and ``embed`` take; None until packed.
    """

    __slots__ = ("bias", "matrix", "weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias
        self.matrix: Any = None

    def pack(self, ops: DenseOps) -> None:
        """Lay the filled matrix out for these operations. A matrix that is packed already is left alone."""
        if self.matrix is None:
            self.matrix = ops.pack(self.weight, self.bias, consume=True)
            self.weight = self.weight.new_empty(0)


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer; the rows of qkv are q, k, v and those of gate_up are gate, up."""

    attention_norm_E: torch.Tensor
    qkv: Linear  # [(H + 2G) D, E]
    q_norm_D: torch.Tensor | None
    k_norm_D: torch.Tensor | None
    out: Linear  # [E, H D]
    mlp_norm_E: torch.Tensor
    gate_up: Linear  # [2F, E]
    down: Linear  # [E, F]


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """All weights; head is the embedding itself where they are tied."""

    embedding: Linear  # [V, E], multiplied with only where tied
    layers: tuple[LayerWeights, ...]
    norm_E: torch.Tensor
    head: Linear  # [V, E]

    def linears(self) -> list[Linear]:
        """Every matrix that a forward pass multiplies with."""
        fused = [part for layer in self.layers for part in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        return [*fused, self.head]

    def pack(self, ops: DenseOps) -> None:
        """Lay every matrix out for these operations, one after another, where it lies if that can be."""
        for linear in (self.embedding, *self.linears()):
            linear.pack(ops)


def allocate(spec: ModelSpec) -> DecoderWeights:
    """Memory for all weights, not yet filled."""
    embedding = _linear(spec, spec.vocab_size, spec.hidden_size)
    return DecoderWeights(
        embedding=embedding,
        layers=tuple(_allocate_layer(spec) for _ in range(spec.num_layers)),
        norm_E=torch.empty(spec.hidden_size, dtype=spec.dtype),
        head=embedding if spec.tied else _linear(spec, spec.vocab_size, spec.hidden_size),
    )


def destinations(spec: ModelSpec, weights: DecoderWeights) -> dict[str, torch.Tensor]:
    """Checkpoint tensor name → the view of ``weights`` that it fills; together they fill everything.

    Copying tensor by tensor into these views fuses at load, so that raw and fused weights never both exist.
    """
    views = {"model.embed_tokens.weight": weights.embedding.weight, "model.norm.weight": weights.norm_E}
    if not spec.tied:
        views["lm_head.weight"] = weights.head.weight
    for index, layer in enumerate(weights.layers):
        views.update((f"model.layers.{index}.{name}", view) for name, view in _layer_destinations(spec, layer).items())
    return views


def ignored(spec: ModelSpec, name: str) -> bool:
    """Whether a checkpoint tensor may be there without being read: derived buffers, a tied output matrix."""
    return name.endswith("rotary_emb.inv_freq") or (spec.tied and name == "lm_head.weight")


def nbytes(spec: ModelSpec) -> int:
    """Bytes of all weights of such a model."""
    with torch.device("meta"):
        weights = allocate(spec)
    return sum(view.nbytes for view in destinations(spec, weights).values())


def _allocate_layer(spec: ModelSpec) -> LayerWeights:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    norm_D = [torch.empty(spec.head_dim, dtype=spec.dtype) if spec.qk_norm else None for _ in "qk"]
    return LayerWeights(
        attention_norm_E=torch.empty(hidden, dtype=spec.dtype),
        qkv=_linear(spec, spec.q_width + 2 * spec.kv_width, hidden, bias=spec.qkv_bias),
        q_norm_D=norm_D[0],
        k_norm_D=norm_D[1],
        out=_linear(spec, hidden, spec.q_width, bias=spec.out_bias),
        mlp_norm_E=torch.empty(hidden, dtype=spec.dtype),
        gate_up=_linear(spec, 2 * inner, hidden, bias=spec.mlp_bias),
        down=_linear(spec, hidden, inner, bias=spec.mlp_bias),
    )


def _linear(spec: ModelSpec, outputs: int, inputs: int, *, bias: bool = False) -> Linear:
    rows = ceil_div(outputs, PACK_ROWS) * PACK_ROWS  # those past the last are room to pack in; unwritten till then
    weight = torch.empty(rows, inputs, dtype=spec.dtype)[:outputs]
    return Linear(weight, torch.empty(outputs, dtype=spec.dtype) if bias else None)


def _layer_destinations(spec: ModelSpec, layer: LayerWeights) -> dict[str, torch.Tensor]:
    views = {
        "input_layernorm.weight": layer.attention_norm_E,
        "post_attention_layernorm.weight": layer.mlp_norm_E,
    }
    if layer.q_norm_D is not None and layer.k_norm_D is not None:
        views["self_attn.q_norm.weight"], views["self_attn.k_norm.weight"] = layer.q_norm_D, layer.k_norm_D
    qkv = {"q_proj": spec.q_width, "k_proj": spec.kv_width, "v_proj": spec.kv_width}
    gate_up = {"gate_proj": spec.intermediate_size, "up_proj": spec.intermediate_size}
    views |= _split(layer.qkv, "self_attn.", qkv)
    views |= _split(layer.out, "self_attn.", {"o_proj": spec.hidden_size})
    views |= _split(layer.gate_up, "mlp.", gate_up)
    views |= _split(layer.down, "mlp.", {"down_proj": spec.hidden_size})
    return views


def _split(linear: Linear, prefix: str, outputs: dict[str, int]) -> dict[str, torch.Tensor]:
    """The rows of a fused linear under the names of its parts."""
    sizes = list(outputs.values())
    views = {
        f"{prefix}{name}.weight": part for name, part in zip(outputs, torch.split(linear.weight, sizes), strict=True)
    }
    if linear.bias is not None:
        parts = zip(outputs, torch.split(linear.bias, sizes), strict=True)
        views |= {f"{prefix}{name}.bias": part for name, part in parts}
    return views
