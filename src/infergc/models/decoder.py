"""The decoder: one forward pass for every supported family, over a flat batch of tokens.

Shapes: T tokens of all sequences, S rows whose logits are wanted, E hidden, F intermediate, H query heads,
G KV heads, D head dim, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from infergc.models.numerics import Fast, Numerics
from infergc.models.rope import RopeTable, rotate
from infergc.models.spec import ModelSpec
from infergc.models.weights import DecoderWeights, LayerWeights, Linear

# attend(layer, q_THD, k_TGD, v_TGD) → out_THD: stores the tokens' K and V and attends to what came before.
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Decoder:
    """Weights and forward pass. What a sequence is, only ``attend`` knows.

    Args:
        spec: the model's shape.
        weights: filled weights of that shape.
        numerics: how products are computed.
    """

    def __init__(self, spec: ModelSpec, weights: DecoderWeights, numerics: Numerics | None = None) -> None:
        self.spec = spec
        self.weights = weights
        self._numerics = numerics or Fast()
        self._rope = RopeTable(spec.rope, spec.head_dim, spec.dtype)

    def forward(self, token_ids_T: torch.Tensor, positions_T: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Hidden states after the last norm, ``[T, E]``; ids and positions are int64.

        Raises:
            IndexError: a token id is not below the vocabulary size.
        """
        hidden_TE = functional.embedding(token_ids_T, self.weights.embedding_VE)
        rope = self._rope.at(positions_T)
        for index, layer in enumerate(self.weights.layers):
            normed_TE = self._norm(hidden_TE, layer.attention_norm_E)
            hidden_TE = hidden_TE + self._attention(index, layer, normed_TE, rope, attend)
            normed_TE = self._norm(hidden_TE, layer.mlp_norm_E)
            hidden_TE = hidden_TE + self._mlp(layer, normed_TE)
        return self._norm(hidden_TE, self.weights.norm_E)

    def logits(self, hidden_SE: torch.Tensor) -> torch.Tensor:
        """Next-token logits, ``[S, V]`` float32."""
        return self._linear(hidden_SE, self.weights.head).float()

    def _attention(
        self,
        index: int,
        layer: LayerWeights,
        normed_TE: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor],
        attend: Attend,
    ) -> torch.Tensor:
        spec = self.spec
        qkv_THD = self._linear(normed_TE, layer.qkv).view(len(normed_TE), -1, spec.head_dim)
        heads = [spec.num_heads, spec.num_kv_heads, spec.num_kv_heads]
        q_THD, k_TGD, v_TGD = torch.split(qkv_THD, heads, dim=1)
        if layer.q_norm_D is not None and layer.k_norm_D is not None:
            q_THD, k_TGD = self._norm(q_THD, layer.q_norm_D), self._norm(k_TGD, layer.k_norm_D)
        out_THD = attend(index, rotate(q_THD, *rope), rotate(k_TGD, *rope), v_TGD)
        return self._linear(out_THD.flatten(1), layer.out)

    def _mlp(self, layer: LayerWeights, normed_TE: torch.Tensor) -> torch.Tensor:
        gate_TF, up_TF = self._linear(normed_TE, layer.gate_up).chunk(2, dim=-1)
        return self._linear(self._numerics.silu(gate_TF).mul_(up_TF), layer.down)

    def _linear(self, x_TK: torch.Tensor, linear: Linear) -> torch.Tensor:
        return self._numerics.linear(x_TK, linear.weight, linear.bias)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMSNorm (Zhang and Sennrich 2019) over the last axis: in float32, rounded before the weight."""
        x_f32 = x.float()
        scale = torch.rsqrt(x_f32.square().mean(-1, keepdim=True) + self.spec.rms_eps)
        return weight * (x_f32 * scale).to(x.dtype)
