"""What a cost and a KV cache follow from: the shape of a decoder, plain numbers."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from infergc.engine.ports import ModelFacts
from infergc.heap.groups import GroupSpec
from infergc.sim.requests import VOCAB

VALUE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}  # what weights and KV may be stored in
_DIGEST = "simulated"  # no weights: one name for all of them


@dataclass(frozen=True)
class Geometry:
    """A dense decoder with grouped-query attention and a gated MLP, as Llama, Mistral, Qwen2 and Qwen3 are.

    Attributes:
        name: as people know it.
        layers, hidden, ffn, vocab, head_dim: widths; ``ffn`` of the gated MLP's middle.
        heads, kv_heads: query heads and KV heads.
        max_len: context in tokens.
        tied: the output matrix is the embedding matrix.
        dtype: of weights and KV, one of ``VALUE_BYTES``.
        windows: one entry a layer: sliding window in tokens, None for full attention. Empty: all are full.
        qkv_bias, out_bias, mlp_bias: which products add a bias.
        qk_norm: RMSNorm over head_dim on queries and keys.
        eos_ids: what ends a text of the real model.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    max_len: int
    tied: bool = False
    dtype: str = "bfloat16"
    windows: tuple[int | None, ...] = ()
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    eos_ids: tuple[int, ...] = ()

    @property
    def q_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def value_bytes(self) -> int:
        """Bytes of one weight, and of one value of K or V."""
        return VALUE_BYTES[self.dtype]

    @property
    def layer_matrix(self) -> int:
        """Parameters that every token is multiplied with in all layers: 2 operations each."""
        attention = self.hidden * (2 * self.q_width + 2 * self.kv_width)
        return self.layers * (attention + 3 * self.hidden * self.ffn)

    @property
    def head_matrix(self) -> int:
        """Parameters that every sampled position is multiplied with besides: the output matrix."""
        return self.hidden * self.vocab

    @property
    def parameters(self) -> int:
        """All parameters, as a checkpoint counts them: matrices, biases, norms, embedding."""
        biases = self.qkv_bias * (self.q_width + 2 * self.kv_width) + self.out_bias * self.hidden
        biases += self.mlp_bias * (2 * self.ffn + self.hidden)
        vectors = self.layers * (2 * self.hidden + biases + self.qk_norm * 2 * self.head_dim) + self.hidden
        return self.layer_matrix + vectors + self.head_matrix * (1 if self.tied else 2)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters."""
        return self.parameters * self.value_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of K and V of one position over all layers."""
        return self.layers * 2 * self.kv_width * self.value_bytes

    @cached_property
    def window_layers(self) -> tuple[tuple[int | None, int], ...]:
        """(window, layers that have it), full attention first: the engine's layer groups."""
        counted = Counter(self.windows or (None,) * self.layers)
        return tuple(sorted(counted.items(), key=lambda item: (item[0] is not None, item[0] or 0)))

    @cached_property
    def shape(self) -> dict[str, object]:
        """What the cost of a step follows from: two models with the same shape cost the same."""
        names = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "dtype")
        return {**{name: getattr(self, name) for name in names}, "windows": self.window_layers}

    def run_in(self, dtype: str) -> "Geometry":
        """The model in the type that the engine runs it in; "auto" is its own, but float32 for float16."""
        own = "float32" if self.dtype == "float16" else self.dtype
        return replace(self, dtype=own if dtype == "auto" else dtype)

    def facts(self, page_tokens: int, vocab_size: int = VOCAB, eos_ids: tuple[int, ...] = ()) -> ModelFacts:
        """What an engine is told of such a model.

        Args:
            page_tokens: tokens in a page.
            vocab_size: of the simulated model, which need not be ``vocab``: a trace has more blocks than that.
            eos_ids: ids that end a text; none, where lengths of outputs are given.
        """
        layer_bytes = self.kv_bytes_per_token // self.layers * page_tokens
        groups = tuple(
            GroupSpec("full" if window is None else "window", layers * layer_bytes, window)
            for window, layers in self.window_layers
        )
        return ModelFacts(_DIGEST, vocab_size, eos_ids, self.max_len, groups, self.dtype)
