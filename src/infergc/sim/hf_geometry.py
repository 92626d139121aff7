"""From a Hugging Face config.json to a Geometry, as the engine reads it: the file alone, and no tensors."""

from pathlib import Path
from typing import Any

from infergc.config import ConfigError
from infergc.hf.errors import ModelError
from infergc.hf.families import ARCHITECTURES, architecture, context, windows
from infergc.hf.fields import complete, read_fields
from infergc.sim.geometry import VALUE_BYTES, Geometry
from infergc.wording import shown

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def read_geometry(path: Path) -> Geometry:
    """The geometry of a model directory, or of its config.json.

    Raises:
        ConfigError: there is no such file, a field is wrong, or the architecture is another one.
    """
    file = path / "config.json" if path.is_dir() else path
    name = file.parent.name if file.name == "config.json" else file.stem
    try:
        fields = read_fields(file)
    except ModelError as error:
        raise ConfigError(f"--{error}") from None
    try:
        return geometry_of(fields, name or str(file))
    except (ConfigError, ModelError) as error:
        raise ConfigError(f"--model: {file}: {str(error).removeprefix('model: config.json: ')}") from None


def geometry_of(fields: dict[str, Any], name: str) -> Geometry:
    """The geometry that a configuration's fields describe, with its family's defaults where they say nothing.

    Raises:
        ConfigError, ModelError: naming the field and what is allowed.
    """
    family = _family(fields)
    config = complete(fields, family)
    each = windows(config)
    geometry = Geometry(
        name=name,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        ffn=config.intermediate_size,
        vocab=config.vocab_size,
        max_len=context(config),
        tied=config.tie_word_embeddings,
        dtype=_dtype(config),
        windows=each if any(each) else (),
        eos_ids=_end_ids(config),
        **ARCHITECTURES[family](config),
    )
    if geometry.heads % geometry.kv_heads:
        raise ConfigError(
            f"num_key_value_heads: {geometry.kv_heads} does not divide num_attention_heads, {geometry.heads}"
        )
    return geometry


def _family(fields: dict[str, Any]) -> str:
    experts = next((field for field in _EXPERTS if (fields.get(field) or 0) > 1), None)
    if experts:
        raise ConfigError(f"{experts}: mixtures of experts are not simulated; dense decoders are")
    given, known = architecture(fields)
    if known:
        return given
    raise ConfigError(f"architectures: {given} is not simulated; these are: {', '.join(ARCHITECTURES)}")


def _dtype(config: Any) -> str:
    dtype = config.dtype or "bfloat16"
    if dtype not in VALUE_BYTES:
        raise ConfigError(f"dtype: {shown(dtype)} is not one of {', '.join(VALUE_BYTES)}")
    return str(dtype)


def _end_ids(config: Any) -> tuple[int, ...]:
    eos = config.eos_token_id
    return tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
