"""What the worker holds in memory besides KV, in bytes."""

from infergc.models.spec import ModelSpec
from infergc.models.weights import nbytes

_F32 = 4


def memory_ledger(spec: ModelSpec, max_num_batched_tokens: int, max_num_seqs: int) -> dict[str, int]:
    """Bytes by holder: ``weights``, exactly, and ``activations``, the estimated peak of the largest step."""
    tokens, rows = max_num_batched_tokens, min(max_num_seqs, max_num_batched_tokens)
    activations = tokens * _bytes_per_token(spec) + rows * _bytes_per_sampled_row(spec)
    return {"weights": nbytes(spec), "activations": activations}


def _bytes_per_token(spec: ModelSpec) -> int:
    """The widest moment of a layer: normed in float32, attention's inputs and output, or the gated MLP."""
    size, hidden = spec.dtype.itemsize, spec.hidden_size
    norm = 2 * _F32 * hidden + 2 * size * hidden
    qkv = spec.q_width + 2 * spec.kv_width
    attention = size * (2 * hidden + qkv + 2 * spec.q_width + 2 * spec.kv_width)
    mlp = size * (2 * hidden + 3 * spec.intermediate_size)
    return max(norm, attention, mlp)


def _bytes_per_sampled_row(spec: ModelSpec) -> int:
    """Logits in the model's dtype and in float32, and one float32 copy that sampling works on."""
    return spec.vocab_size * (spec.dtype.itemsize + 2 * _F32)
