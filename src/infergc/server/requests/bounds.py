"""Bounds of request fields in the server's own description: those that are checked, told where they can be told."""

from typing import Any

from infergc.cache_control import MAX_PRIORITY as MOST_WORTH
from infergc.client.prepare import MAX_LABEL, MAX_PRIORITY
from infergc.config import EngineConfig
from infergc.params import BOUNDS, MAX_COUNT, MAX_IDS, MAX_LOGPROBS, MAX_QUEUE_TIMEOUT
from infergc.server.settings import LEAST_SESSION_TIMEOUT, MOST_SECONDS

_LABEL = {"maxLength": MAX_LABEL}
_BIAS = {
    "propertyNames": {"pattern": f"^[0-9]{{1,{len(str(MAX_COUNT)) - 1}}}$"},
    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    "maxProperties": MAX_IDS,
}
_SAID: dict[str, dict[str, Any]] = {
    **{name: {"minimum": low, "maximum": high} for name, low, high in BOUNDS},
    "max_completion_tokens": {"minimum": 1, "maximum": MAX_COUNT},
    "messages": {"minItems": 1},
    "top_p": {"exclusiveMinimum": 0, "maximum": 1},
    "top_logprobs": {"minimum": 0, "maximum": MAX_LOGPROBS},
    "stop_token_ids": {"maxItems": MAX_IDS, "items": {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}},
    "logit_bias": _BIAS,
    "early_stopping": {"enum": [None, False, True, "never"]},
    "priority": {"minimum": -MAX_PRIORITY - 1, "maximum": MAX_PRIORITY},
    "queue_timeout": {"minimum": 1, "maximum": MAX_QUEUE_TIMEOUT},
    "cache_salt": _LABEL,
    "session_id": {**_LABEL, "minLength": 1},
}
_WORDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_SAID_OF_CACHE_CONTROL = {"priority": {"minimum": 0, "maximum": MOST_WORTH}}


def tell_bounds(schema: dict[str, Any]) -> None:
    """Add the bounds to a request's JSON schema; for ``json_schema_extra``.

    Not told: which fields contradict each other, and what depends on the model.
    """
    _tell(schema, _SAID)


def tell_cache_bounds(schema: dict[str, Any]) -> None:
    """The same for ``cache_control``."""
    _tell(schema, _SAID_OF_CACHE_CONTROL)


def tell_flag_bounds(schema: dict[str, Any]) -> None:
    """The same for the settings that are flags of the engine."""
    flags = EngineConfig.model_json_schema()["properties"]
    _tell(schema, {name: {word: flag[word] for word in _WORDS if word in flag} for name, flag in flags.items()})
    schema["properties"]["session_timeout"].update(minimum=LEAST_SESSION_TIMEOUT, maximum=MOST_SECONDS)


def _tell(schema: dict[str, Any], said: dict[str, dict[str, Any]]) -> None:
    for name, field in schema["properties"].items():
        field.update(said.get(name, {}))
