"""Tiny random Hugging Face checkpoints of every supported family, for comparison with transformers."""

from pathlib import Path
from typing import Any

import torch
import transformers

# Non-embedding matrices are scaled by this: as initialised, a small random model repeats one token, and equal
# streams of it would prove nothing.
GAIN = 12.0
SEED = 2  # its streams vary in every family: 20 and more distinct tokens in 40

_SIZES: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
_MIXED = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]

_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2": ("Llama", {"num_key_value_heads": 4}),
    "llama3": ("Llama", {"rope_parameters": _LLAMA3_ROPE}),
    "llama_tied": ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen2": ("Qwen2", {}),
    "qwen2_mixed": (
        "Qwen2",
        {"num_hidden_layers": 4, "use_sliding_window": True, "sliding_window": 40, "layer_types": _MIXED},
    ),
    "qwen3": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "mistral_window": ("Mistral", {"sliding_window": 48}),
    "mistral_full": ("Mistral", {"sliding_window": None, "head_dim": 24}),
}
FAMILIES = tuple(_FAMILIES)


def make_family(name: str, directory: Path, seed: int = SEED, *, shard_size: str = "5GB", **overrides: Any) -> Path:
    """Write a random float32 checkpoint of the family to ``directory`` and return it.

    Args:
        name: one of ``FAMILIES``.
        directory: where to; created if need be.
        seed: of the weights.
        shard_size: largest shard, as transformers writes it: ``"50KB"``.
        overrides: configuration fields in place of the family's; ``dtype`` sets the stored type.
    """
    transformers.utils.logging.disable_progress_bar()
    model = build_family(name, seed, **overrides)
    model.save_pretrained(directory, max_shard_size=shard_size)
    return directory


def build_family(name: str, seed: int = SEED, **overrides: Any) -> Any:
    """The transformers model that ``make_family`` writes."""
    prefix, fields = _FAMILIES[name]
    dtype = overrides.pop("dtype", torch.float32)
    config = getattr(transformers, f"{prefix}Config")(**{**_SIZES, **fields, **overrides})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{prefix}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            _vary(parameter_name, parameter)
    return model.to(dtype)


def _vary(name: str, parameter: torch.Tensor) -> None:
    """Scale matrices; give biases and norms, which start as constants, values of their own."""
    if name.endswith("bias"):
        parameter.normal_(0.0, 0.2)
    elif "norm" in name:
        parameter.normal_(1.0, 0.1)
    elif "embed" not in name and "lm_head" not in name:
        parameter.mul_(GAIN)
