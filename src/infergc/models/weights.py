"""A decoder's weights, fused for fewer and larger products, and where each checkpoint tensor goes.

Shapes: V vocabulary, E hidden, F intermediate, H query heads, G KV heads, D head dim.
"""

from dataclasses import dataclass

import torch

from infergc.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Linear:
    """Weight ``[outputs, inputs]`` and an optional bias ``[outputs]``."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None


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

    embedding_VE: torch.Tensor
    layers: tuple[LayerWeights, ...]
    norm_E: torch.Tensor
    head: Linear  # [V, E]

    def linears(self) -> list[Linear]:
        """Every matrix that a forward pass multiplies with."""
        fused = [part for layer in self.layers for part in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        return [*fused, self.head]


def allocate(spec: ModelSpec) -> DecoderWeights:
    """Memory for all weights, not yet filled."""
    embedding_VE = torch.empty(spec.vocab_size, spec.hidden_size, dtype=spec.dtype)
    return DecoderWeights(
        embedding_VE=embedding_VE,
        layers=tuple(_allocate_layer(spec) for _ in range(spec.num_layers)),
        norm_E=torch.empty(spec.hidden_size, dtype=spec.dtype),
        head=Linear(embedding_VE) if spec.tied else _linear(spec, spec.vocab_size, spec.hidden_size),
    )


def destinations(spec: ModelSpec, weights: DecoderWeights) -> dict[str, torch.Tensor]:
    """Checkpoint tensor name → the view of ``weights`` that it fills; together they fill everything.

    Copying tensor by tensor into these views fuses at load, so that raw and fused weights never both exist.
    """
    views = {"model.embed_tokens.weight": weights.embedding_VE, "model.norm.weight": weights.norm_E}
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
    weight = torch.empty(outputs, inputs, dtype=spec.dtype)
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
