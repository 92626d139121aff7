"""From the rotary settings of a Hugging Face configuration to a RopeSpec."""

from collections.abc import Callable, Mapping
from typing import Any

from infergc.hf.errors import ModelError, UnsupportedModelError
from infergc.hf.families import rope_kind, rope_settings, yarn_stretch
from infergc.models.rope import ROPE_KINDS, yarn_amplitude
from infergc.models.spec import RopeSpec


def rope_spec(config: Any) -> RopeSpec:
    """Read the settings of the rotary embedding.

    ``dynamic`` scaling is refused: its frequencies follow the text's length, so that a cached key would have
    to be rotated anew as the text grows.

    Raises:
        UnsupportedModelError: another rope type, or a rotation of part of the head only.
        ModelError: a setting of the type is missing or malformed.
    """
    settings = rope_settings(config)
    kind = rope_kind(settings)
    if kind not in ROPE_KINDS or float(settings.get("partial_rotary_factor") or 1.0) != 1.0:
        raise UnsupportedModelError(
            f"config.json: rope type {kind!r} with settings {settings} is not supported; "
            f"these types are, over the whole head: {', '.join(ROPE_KINDS)}"
        )
    try:
        return _ROPE_READERS[kind](settings, int(config.max_position_embeddings))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"config.json: rope type {kind!r} lacks or misstates a setting: {error}") from error


def _theta(settings: Mapping[str, Any]) -> float:
    return float(settings.get("rope_theta") or 10_000.0)


def _default_rope(settings: Mapping[str, Any], _: int) -> RopeSpec:
    return RopeSpec(theta=_theta(settings))


def _linear_rope(settings: Mapping[str, Any], _: int) -> RopeSpec:
    return RopeSpec(kind="linear", theta=_theta(settings), factor=float(settings["factor"]))


def _llama3_rope(settings: Mapping[str, Any], max_len: int) -> RopeSpec:
    return RopeSpec(
        kind="llama3",
        theta=_theta(settings),
        factor=float(settings["factor"]),
        original_len=int(settings.get("original_max_position_embeddings") or max_len),
        low_freq_factor=float(settings["low_freq_factor"]),
        high_freq_factor=float(settings["high_freq_factor"]),
    )


def _yarn_rope(settings: Mapping[str, Any], max_len: int) -> RopeSpec:
    original, factor = yarn_stretch(settings, max_len)
    truncate = settings.get("truncate")
    return RopeSpec(
        kind="yarn",
        theta=_theta(settings),
        factor=factor,
        original_len=original,
        beta_fast=float(settings.get("beta_fast") or 32),
        beta_slow=float(settings.get("beta_slow") or 1),
        truncate=True if truncate is None else bool(truncate),
        amplitude=_yarn_attention(settings, factor),
    )


def _yarn_attention(settings: Mapping[str, Any], factor: float) -> float:
    given, mscale, mscale_all = (settings.get(k) for k in ("attention_factor", "mscale", "mscale_all_dim"))
    if given is not None:
        return float(given)
    if mscale and mscale_all:
        return yarn_amplitude(factor, mscale) / yarn_amplitude(factor, mscale_all)
    return yarn_amplitude(factor)


_ROPE_READERS: Mapping[str, Callable[[Mapping[str, Any], int], RopeSpec]] = {
    "default": _default_rope,
    "linear": _linear_rope,
    "llama3": _llama3_rope,
    "yarn": _yarn_rope,
}
