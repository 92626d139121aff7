"""From a Hugging Face config.json to a Geometry: the file alone, without the libraries of the tensor side."""

import json
from pathlib import Path
from typing import Any

from infergc.config import ConfigError
from infergc.sim.geometry import VALUE_BYTES, Geometry
from infergc.wording import shown

_FAMILIES = {  # architecture → what its code adds, whatever the file says
    "LlamaForCausalLM": {},
    "MistralForCausalLM": {},
    "Qwen2ForCausalLM": {"qkv_bias": True},
    "Qwen3ForCausalLM": {"qk_norm": True},
}
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_MISTRAL_WINDOW = 4096  # of its configuration class, where a file says nothing


def read_geometry(path: Path) -> Geometry:
    """The geometry of a model directory, or of its config.json.

    Raises:
        ConfigError: there is no such file, a field is missing or wrong, or the architecture is another one.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"--model: there is no {file}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"--model: {file} is not a readable JSON object: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"--model: {file} is not a JSON object")
    name = file.parent.name if file.name == "config.json" else file.stem
    try:
        return geometry_of(fields, name or str(file))
    except ConfigError as error:
        raise ConfigError(f"--model: {file}: {error}") from None


def geometry_of(fields: dict[str, Any], name: str) -> Geometry:
    """The geometry that a configuration's fields describe.

    Raises:
        ConfigError: naming the field and what is allowed.
    """
    family = _family(fields)
    heads = _positive(fields, "num_attention_heads")
    hidden, layers = _positive(fields, "hidden_size"), _positive(fields, "num_hidden_layers")
    bias = bool(fields.get("attention_bias", False))
    geometry = Geometry(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_positive(fields, "num_key_value_heads", heads),
        head_dim=_positive(fields, "head_dim", hidden // heads),
        ffn=_positive(fields, "intermediate_size"),
        vocab=_positive(fields, "vocab_size"),
        max_len=_context(fields),
        tied=bool(fields.get("tie_word_embeddings", False)),
        dtype=_dtype(fields),
        windows=_windows(fields, layers),
        qkv_bias=bias or bool(_FAMILIES[family].get("qkv_bias")),
        out_bias=bias and family != "Qwen2ForCausalLM",
        mlp_bias=bool(fields.get("mlp_bias", False)),
        qk_norm=bool(_FAMILIES[family].get("qk_norm")),
        eos_ids=_end_ids(fields),
    )
    if geometry.heads % geometry.kv_heads:
        raise ConfigError(f"num_key_value_heads: {geometry.kv_heads} does not divide num_attention_heads, {heads}")
    return geometry


def _family(fields: dict[str, Any]) -> str:
    experts = next((field for field in _EXPERTS if (fields.get(field) or 0) > 1), None)
    if experts:
        raise ConfigError(f"{experts}: mixtures of experts are not simulated; dense decoders are")
    names = fields.get("architectures") or []
    if len(names) == 1 and names[0] in _FAMILIES:
        return str(names[0])
    given = ", ".join(map(str, names)) or "none"
    raise ConfigError(f"architectures: {given} is not simulated; these are: {', '.join(_FAMILIES)}")


def _positive(fields: dict[str, Any], field: str, default: int | None = None) -> int:
    value = fields.get(field)
    if value is None:
        if default is None:
            raise ConfigError(f"{field}: is required")
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{field}: takes an integer from 1 up, not {shown(value)}")
    return value


def _context(fields: dict[str, Any]) -> int:
    """Context in tokens; a YaRN configuration may give the length before it is stretched."""
    longest = _positive(fields, "max_position_embeddings")
    rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    if (rope.get("rope_type") or rope.get("type")) != "yarn":
        return longest
    original = rope.get("original_max_position_embeddings") or longest
    return max(longest, int(original * float(rope.get("factor") or longest / original)))


def _dtype(fields: dict[str, Any]) -> str:
    dtype = fields.get("dtype") or fields.get("torch_dtype") or "bfloat16"
    if dtype not in VALUE_BYTES:
        raise ConfigError(f"dtype: {shown(dtype)} is not one of {', '.join(VALUE_BYTES)}")
    return str(dtype)


def _windows(fields: dict[str, Any], layers: int) -> tuple[int | None, ...]:
    """Each layer's window, as the families' code reads the file; one that no text outgrows is none."""
    family = fields["architectures"][0]
    if family == "MistralForCausalLM":
        window, kinds = fields.get("sliding_window", _MISTRAL_WINDOW), [True] * layers
    elif family.startswith("Qwen") and fields.get("use_sliding_window"):
        window, kinds = fields.get("sliding_window"), _sliding(fields, layers)
    else:
        return ()
    if window is None or window >= _context(fields) or not any(kinds):
        return ()
    return tuple(_positive(fields, "sliding_window", window) if slides else None for slides in kinds)


def _sliding(fields: dict[str, Any], layers: int) -> list[bool]:
    kinds = fields.get("layer_types")
    if kinds is None:
        full = fields.get("max_window_layers", layers)
        return [layer >= full for layer in range(layers)]
    if len(kinds) != layers:
        raise ConfigError(f"layer_types: {len(kinds)} entries for {layers} layers")
    return [kind == "sliding_attention" for kind in kinds]


def _end_ids(fields: dict[str, Any]) -> tuple[int, ...]:
    eos = fields.get("eos_token_id")
    return tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),)
