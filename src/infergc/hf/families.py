"""What a configuration means to its family's code: which products have a bias, which layers a window, how far it goes.

A configuration has attributes by the names of transformers 5, as ``hf.fields.complete`` gives them, or is one of
transformers' own.
"""

from collections.abc import Callable, Mapping
from typing import Any

from infergc.hf.errors import UnsupportedModelError

_FULL, _SLIDING = "full_attention", "sliding_attention"  # kinds of layers


def _llama(config: Any) -> dict[str, bool]:
    bias = bool(config.attention_bias)
    return {"qkv_bias": bias, "out_bias": bias, "mlp_bias": bool(config.mlp_bias)}


def _mistral(_: Any) -> dict[str, bool]:
    return {}


def _qwen2(_: Any) -> dict[str, bool]:
    return {"qkv_bias": True}


def _qwen3(config: Any) -> dict[str, bool]:
    bias = bool(config.attention_bias)
    return {"qkv_bias": bias, "out_bias": bias, "qk_norm": True}


# What sets each family apart; all else is read from the configuration alike.
ARCHITECTURES: Mapping[str, Callable[[Any], dict[str, bool]]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
}


def architecture(fields: Mapping[str, Any]) -> tuple[str, bool]:
    """What a file calls its architecture, "none" if it does not, and whether that is one of ``ARCHITECTURES``."""
    names = fields.get("architectures")
    names = names if isinstance(names, list) else []
    given = ", ".join(map(str, names)) or "none"
    return given, len(names) == 1 and given in ARCHITECTURES


def windows(config: Any) -> tuple[int | None, ...]:
    """Each layer's sliding window in tokens; None for full attention, as is a window that no text outgrows.

    A file may give fields that its family's code does not read: Llama's reads no window, Mistral's no ``layer_types``.

    Raises:
        UnsupportedModelError: a layer is of a kind that is not implemented.
    """
    family, window = config.architectures[0], getattr(config, "sliding_window", None)
    if family == "LlamaForCausalLM" or window is None or window >= context(config):
        window = None
    kinds = _layer_types(config) if family.startswith("Qwen") else [_SLIDING] * config.num_hidden_layers
    return tuple(window if kind == _SLIDING else None for kind in kinds)


def _layer_types(config: Any) -> list[str]:
    kinds: list[str] = config.layer_types
    unknown = set(kinds) - {_FULL, _SLIDING}
    if unknown:
        raise UnsupportedModelError(
            f"config.json: layer_types holds {', '.join(sorted(unknown))}; supported are {_FULL} and {_SLIDING}"
        )
    return kinds


def rope_settings(config: Any) -> dict[str, Any]:
    """``rope_parameters`` (transformers 5), or ``rope_theta`` with ``rope_scaling`` (before)."""
    settings = getattr(config, "rope_parameters", None)
    if settings is not None:
        return dict(settings)
    return {"rope_theta": getattr(config, "rope_theta", None), **(getattr(config, "rope_scaling", None) or {})}


def rope_kind(settings: Mapping[str, Any]) -> str:
    """The type of rotary embedding, by its name."""
    return str(settings.get("rope_type") or settings.get("type") or "default")


def yarn_stretch(settings: Mapping[str, Any], longest: int) -> tuple[int, float]:
    """The context in tokens that a model of YaRN was trained on, and how many times as long it is made."""
    original = int(settings.get("original_max_position_embeddings") or longest)
    return original, float(settings.get("factor") or longest / original)


def context(config: Any) -> int:
    """Context in tokens; YaRN configurations often still give the length before stretching."""
    longest, settings = int(config.max_position_embeddings), rope_settings(config)
    if rope_kind(settings) != "yarn":
        return longest
    original, factor = yarn_stretch(settings, longest)
    return max(longest, int(original * factor))
