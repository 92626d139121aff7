"""The decoder: one forward pass for every supported family, over a flat batch of tokens.

Shapes: T tokens of all sequences, S rows whose logits are wanted, E hidden, F intermediate, H query heads,
G KV heads, D head dim, V vocabulary.
"""

from collections.abc import Callable

import torch

from infergc.kernels.api import DenseOps, Rotation
from infergc.models.rope import RopeTable
from infergc.models.spec import ModelSpec
from infergc.models.weights import DecoderWeights, LayerWeights

# attend(layer, q_THD, k_TGD, v_TGD) → out_THD: stores the tokens' K and V and attends to what came before.
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Decoder:
    """Weights and forward pass. What a sequence is, only ``attend`` knows.

    Args:
        spec: the model's shape.
        weights: filled weights of that shape; their matrices are packed here.
        ops: everything that is computed but attention.
    """

    def __init__(self, spec: ModelSpec, weights: DecoderWeights, ops: DenseOps) -> None:
        self.spec = spec
        self.weights = weights
        self.ops = ops
        self._rope = RopeTable(spec.rope, spec.head_dim, spec.dtype, weights.norm_E.device, spec.max_len)
        weights.pack(ops)

    def forward(self, token_ids_T: torch.Tensor, positions_T: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Hidden states after the last norm, ``[T, E]``; ids and positions are int64.

        Raises:
            IndexError: a token id is not below the vocabulary size.
        """
        ops, eps = self.ops, self.spec.rms_eps
        hidden_TE, angles = self.embed(token_ids_T), self.angles(positions_T)
        delta_TE = None
        for index, layer in enumerate(self.weights.layers):
            normed_TE = ops.add_norm(hidden_TE, delta_TE, layer.attention_norm_E, eps)
            delta_TE = self._attention(index, layer, normed_TE, angles, attend)
            normed_TE = ops.add_norm(hidden_TE, delta_TE, layer.mlp_norm_E, eps)
            delta_TE = self._mlp(layer, normed_TE)
        return ops.add_norm(hidden_TE, delta_TE, self.weights.norm_E, eps)

    def embed(self, token_ids_T: torch.Tensor) -> torch.Tensor:
        """The tokens' embeddings, ``[T, E]``.

        Raises:
            IndexError: a token id is not below the vocabulary size.
        """
        return self.ops.embed(token_ids_T, self.weights.embedding.matrix)

    def angles(self, positions_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of these positions, ``[T, D / 2]`` each."""
        return self._rope.at(positions_T)

    def logits(self, hidden_SE: torch.Tensor) -> torch.Tensor:
        """Next-token logits, ``[S, V]`` float32."""
        return self.ops.linear(hidden_SE, self.weights.head.matrix).float()

    def _attention(
        self,
        index: int,
        layer: LayerWeights,
        normed_TE: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        attend: Attend,
    ) -> torch.Tensor:
        spec, heads = self.spec, self.spec.num_heads
        turned = heads + spec.num_kv_heads
        qkv_THD = self.ops.linear(normed_TE, layer.qkv.matrix).view(len(normed_TE), -1, spec.head_dim)
        rotation = Rotation(*angles, heads, layer.q_norm_D, layer.k_norm_D, spec.rms_eps)
        self.ops.rotate(qkv_THD[:, :turned], rotation)
        out_THD = attend(index, qkv_THD[:, :heads], qkv_THD[:, heads:turned], qkv_THD[:, turned:])
        return self.ops.linear(out_THD.flatten(1), layer.out.matrix)

    def _mlp(self, layer: LayerWeights, normed_TE: torch.Tensor) -> torch.Tensor:
        gate_up_TF = self.ops.linear(normed_TE, layer.gate_up.matrix)
        return self.ops.linear(self.ops.silu_mul(gate_up_TF), layer.down.matrix)
