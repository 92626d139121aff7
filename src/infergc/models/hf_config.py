"""From a Hugging Face config.json to a ModelSpec; local files only, no remote code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from infergc.hf.errors import ModelError, UnsupportedModelError
from infergc.hf.families import ARCHITECTURES, architecture, context, windows
from infergc.hf.fields import complete, read_fields
from infergc.models.hf_rope import rope_spec
from infergc.models.spec import ModelSpec

_ACTIVATIONS = ("silu", "swish")


def read_config(directory: Path) -> Any:
    """The model's configuration: attributes by the names of transformers 5, whatever the age of the file.

    Raises:
        ModelError: there is no config.json, or it is malformed.
        UnsupportedModelError: the architecture is not among ``ARCHITECTURES``.
    """
    path = directory / "config.json"
    fields = read_fields(path)
    return complete(fields, _architecture(path, fields))


def _architecture(path: Path, fields: Mapping[str, Any]) -> str:
    given, known = architecture(fields)
    if known:
        return given
    raise UnsupportedModelError(
        f"{path}: architectures is {given}, which is not supported; these are: {', '.join(ARCHITECTURES)}"
    )


def model_spec(config: Any, dtype: torch.dtype) -> ModelSpec:
    """The spec of a transformers configuration of a supported architecture.

    Raises:
        UnsupportedModelError: an activation or rotary embedding that is not implemented.
        ModelError: widths that do not fit together.
    """
    if config.hidden_act not in _ACTIVATIONS:
        raise UnsupportedModelError(f"config.json: hidden_act is {config.hidden_act!r}; supported is 'silu'")
    rope = rope_spec(config)
    heads = int(config.num_attention_heads)
    spec = ModelSpec(
        architecture=config.architectures[0],
        dtype=dtype,
        vocab_size=int(config.vocab_size),
        hidden_size=int(config.hidden_size),
        intermediate_size=int(config.intermediate_size),
        num_heads=heads,
        num_kv_heads=int(config.num_key_value_heads or heads),
        head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        windows=windows(config),
        max_len=context(config),
        rms_eps=float(config.rms_norm_eps),
        rope=rope,
        tied=bool(config.tie_word_embeddings),
        **ARCHITECTURES[config.architectures[0]](config),
    )
    _check_widths(spec)
    return spec


def checkpoint_dtype(config: Any) -> torch.dtype | None:
    """The dtype that config.json says the weights have, if it does."""
    dtype = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None)
    return getattr(torch, dtype, None) if isinstance(dtype, str) else dtype


def _check_widths(spec: ModelSpec) -> None:
    if spec.num_heads % spec.num_kv_heads:
        raise ModelError(
            f"config.json: num_key_value_heads {spec.num_kv_heads} does not divide num_attention_heads {spec.num_heads}"
        )
    if spec.head_dim % 2:
        raise ModelError(f"config.json: head_dim {spec.head_dim} is odd; rotary embeddings need an even one")
