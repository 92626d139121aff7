"""The fields of a config.json, with what transformers' class of each family takes where the file says nothing.

Those classes themselves are not imported: with what they pull in an engine would take twice as long to start.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from infergc.hf.errors import ModelError, UnsupportedModelError
from infergc.wording import shown

_WIDTHS = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
_COMMON = {**_WIDTHS, "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "head_dim": None}
_FIRST = {**_COMMON, "vocab_size": 32000, "eos_token_id": 2}
_QWEN = {**_COMMON, "vocab_size": 151936, "eos_token_id": None, "intermediate_size": 22016,
         "max_position_embeddings": 32768, "num_key_value_heads": 32, "use_sliding_window": False,
         "sliding_window": 4096, "max_window_layers": 28}  # fmt: skip
DEFAULTS: Mapping[str, Mapping[str, Any]] = {  # of the families' classes, by architecture
    "LlamaForCausalLM": {**_FIRST, "intermediate_size": 11008, "max_position_embeddings": 2048,
                         "num_key_value_heads": None, "attention_bias": False, "mlp_bias": False},
    "MistralForCausalLM": {**_FIRST, "intermediate_size": 14336, "max_position_embeddings": 4096 * 32,
                           "num_key_value_heads": 8, "sliding_window": 4096},
    "Qwen2ForCausalLM": _QWEN,
    "Qwen3ForCausalLM": {**_QWEN, "head_dim": 128, "attention_bias": False},
}  # fmt: skip
_MAY_BE_NULL = frozenset({"num_key_value_heads", "head_dim", "sliding_window", "eos_token_id"})
_POSITIVE = frozenset({*_WIDTHS, "vocab_size", "intermediate_size", "max_position_embeddings", "num_key_value_heads",
                       "head_dim", "sliding_window"})  # fmt: skip
_THETA = 10_000.0


def read_fields(path: Path) -> dict[str, Any]:
    """What the file holds.

    Raises:
        ModelError: it is not there, or not a JSON object.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} holds no {path.name}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not a readable JSON object: {error}") from error
    if not isinstance(fields, dict):
        raise ModelError(f"{path} is not a readable JSON object: it is {shown(fields)}")
    return fields


def complete(given: Mapping[str, Any], architecture: str) -> Any:
    """The fields as attributes, by the names of transformers 5, with the family's defaults.

    Args:
        given: what the file holds; fields unknown here are kept.
        architecture: one of ``DEFAULTS``.

    Raises:
        ModelError: a field has a value that it cannot have.
        UnsupportedModelError: the layers differ in more than their windows.
    """
    defaults = DEFAULTS[architecture]
    fields = {**defaults, **given}
    for name in defaults:
        _check(name, fields[name])
    if fields.get("per_layer_config") is not None:
        raise UnsupportedModelError("config.json: per_layer_config is not supported; all layers have the same widths")
    _fill_heads(fields)
    if architecture.startswith("Qwen"):
        _fill_windows(fields)
    _check_layer_types(fields)
    fields["rope_parameters"] = _rope_parameters(fields)
    fields["dtype"] = fields.get("dtype") or fields.get("torch_dtype")
    return SimpleNamespace(**fields)


def _check(name: str, value: Any) -> None:
    """What the families' classes check: a number is no string, and nothing is null that must not be."""
    if value is None and name in _MAY_BE_NULL:
        return
    kind, holds = next((kind, holds) for names, kind, holds in _KINDS if name in names)
    if not holds(value):
        raise ModelError(f"config.json: {name} is {shown(value)}, which is not {kind}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_end(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, list) and all(map(_is_whole, value)))


_FLAGS = frozenset({"tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window"})
_KINDS: tuple[tuple[frozenset[str], str, Callable[[Any], bool]], ...] = (
    (_POSITIVE, "an integer from 1 up", lambda value: _is_whole(value) and value > 0),
    (_FLAGS, "true or false", lambda value: isinstance(value, bool)),
    (frozenset({"eos_token_id"}), "an id or a list of ids", _is_end),
    (frozenset({"max_window_layers"}), "an integer", _is_whole),
    (frozenset({"hidden_act"}), "a name", lambda value: isinstance(value, str)),
    (frozenset({"rms_norm_eps"}), "a number", lambda value: _is_whole(value) or isinstance(value, float)),
)


def _fill_heads(fields: dict[str, Any]) -> None:
    heads = fields["num_attention_heads"]
    fields["num_key_value_heads"] = fields["num_key_value_heads"] or heads
    fields["head_dim"] = fields["head_dim"] or fields["hidden_size"] // heads


def _fill_windows(fields: dict[str, Any]) -> None:
    """Qwen's window is off unless it is used, and then of the upper layers where nothing is said of each."""
    if not fields["use_sliding_window"]:
        fields["sliding_window"] = None
    if fields.get("layer_types") is None:
        first = fields["num_hidden_layers"] if fields["sliding_window"] is None else fields["max_window_layers"]
        layers = range(fields["num_hidden_layers"])
        fields["layer_types"] = ["sliding_attention" if at >= first else "full_attention" for at in layers]


def _check_layer_types(fields: Mapping[str, Any]) -> None:
    kinds, layers = fields.get("layer_types"), fields["num_hidden_layers"]
    if kinds is None:
        return
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise ModelError(
            f"config.json: layer_types is {shown(kinds)}, which is not a list of {layers} entries, one a layer"
        )


def _rope_parameters(fields: Mapping[str, Any]) -> dict[str, Any]:
    """One table of what was spread over fields by and by."""
    found = fields.get("rope_scaling") or fields.get("rope_parameters") or {}
    if not isinstance(found, dict):
        raise ModelError(f"config.json: rope_parameters is {shown(found)}, which is not an object")
    if any(isinstance(value, dict) for value in found.values()):
        raise UnsupportedModelError("config.json: rope_parameters differ between layers, which is not supported")
    rope = {"rope_theta": fields.get("rope_theta", _THETA), "rope_type": found.get("type", "default"), **found}
    if (part := fields.get("partial_rotary_factor")) is not None:
        rope.setdefault("partial_rotary_factor", part)
    if (original := fields.get("original_max_position_embeddings")) is not None:
        rope["original_max_position_embeddings"] = original
    return rope
