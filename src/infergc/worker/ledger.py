"""What the worker holds in memory besides KV, in bytes."""

import psutil

from infergc.config import ConfigError
from infergc.models.spec import ModelSpec
from infergc.models.weights import nbytes
from infergc.units import format_bytes

_F32 = 4


def memory_ledger(spec: ModelSpec, max_num_batched_tokens: int, max_num_seqs: int) -> dict[str, int]:
    """Bytes by holder: ``weights``, exactly, and ``activations``, the estimated peak of the largest step."""
    tokens, rows = max_num_batched_tokens, min(max_num_seqs, max_num_batched_tokens)
    activations = tokens * _bytes_per_token(spec) + rows * _bytes_per_sampled_row(spec)
    return {"weights": nbytes(spec), "activations": activations}


def check_kv_fits(kv_bytes: int, others: dict[str, int]) -> None:
    """Refuse a KV cache that this machine cannot hold beside the rest; pages are committed only when written.

    Raises:
        ConfigError: naming --kv-cache-memory and what would fit.
    """
    total = psutil.virtual_memory().total
    rest = total - sum(others.values())
    if kv_bytes > rest:
        raise ConfigError(
            f"--kv-cache-memory: {format_bytes(kv_bytes)} do not fit: this machine has {format_bytes(total)} of "
            f"memory, and beside weights and activations at most {format_bytes(max(rest, 0))} are left"
        )


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
