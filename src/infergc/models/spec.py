"""What a decoder is made of: plain numbers, one frozen record for every supported family."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding (Su et al. 2021, RoFormer) and how its frequencies are scaled.

    Attributes:
        kind: ``default``, ``linear``, ``llama3`` or ``yarn``.
        theta: base of the geometric series of frequencies.
        factor: stretch of the context; 1 for ``default``.
        original_len: context the model was trained on, in tokens (``llama3``, ``yarn``).
        low_freq_factor, high_freq_factor: ``llama3``: wavelengths over original_len / low are stretched
            by factor, those under original_len / high are kept, between them it is interpolated.
        beta_fast, beta_slow: ``yarn``: turns within original_len at which stretching begins and is complete.
        truncate: ``yarn``: round the border dimensions outwards to integers.
        amplitude: ``yarn``: multiplies cos and sin; 1 otherwise.
    """

    kind: str = "default"
    theta: float = 10_000.0
    factor: float = 1.0
    original_len: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    amplitude: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A pre-norm decoder with rotary attention and a gated MLP; families differ only in these fields.

    Attributes:
        architecture: the name in ``config.json``.
        dtype: of weights, activations and KV.
        vocab_size, hidden_size, intermediate_size, head_dim: widths.
        num_heads, num_kv_heads: query heads and KV heads; the latter divides the former.
        windows: one entry a layer: sliding window in tokens (position p sees p - window + 1 … p), None for
            full attention. A window no shorter than max_len is None.
        max_len: context in tokens.
        rms_eps: added to the mean square in every RMSNorm.
        rope: rotary embedding.
        qkv_bias, out_bias, mlp_bias: which linears carry a bias.
        qk_norm: RMSNorm over head_dim on queries and keys, before the rotation.
        tied: the output matrix is the embedding matrix.
    """

    architecture: str
    dtype: torch.dtype
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    windows: tuple[int | None, ...]
    max_len: int
    rms_eps: float
    rope: RopeSpec
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tied: bool = False

    @property
    def num_layers(self) -> int:
        """Decoder layers."""
        return len(self.windows)

    @property
    def q_width(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads together (and of all value heads)."""
        return self.num_kv_heads * self.head_dim

    @property
    def scale(self) -> float:
        """Factor on query-key products: 1 / sqrt(head_dim)."""
        return float(self.head_dim**-0.5)
