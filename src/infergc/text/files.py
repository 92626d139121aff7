"""What the small JSON files beside a tokenizer say: special tokens, bos and eos, chat template."""

import json
from pathlib import Path
from typing import Any


class TokenizerError(ValueError):
    """A model directory's tokenizer files are missing, broken, or of a kind that is not supported."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file.

    Raises:
        TokenizerError: the file is not a JSON object.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{path}: holds {type(value).__name__}, not a JSON object")
    return value


def read_tokenizer_config(model_dir: Path) -> dict[str, Any]:
    """``tokenizer_config.json``, completed by the older ``special_tokens_map.json``."""
    return read_json(model_dir / "special_tokens_map.json") | read_json(model_dir / "tokenizer_config.json")


def named_special_tokens(tokenizer_config: dict[str, Any]) -> dict[str, str]:
    """``{"bos_token": "<s>", "eos_token": …}``: the special tokens that have a name of their own."""
    named = {}
    for name, value in tokenizer_config.items():
        text = token_content(value)
        if name.endswith("_token") and text is not None:
            named[name] = text
    return named


def token_content(value: Any) -> str | None:
    """The text of a token as the files write it: a string, or an object with ``content``."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def eos_token_ids(model_dir: Path) -> tuple[int, ...]:
    """End token ids of ``generation_config.json``, or of ``config.json`` where that has none."""
    for name in ("generation_config.json", "config.json"):
        value = read_json(model_dir / name).get("eos_token_id")
        if value is not None:
            return tuple(value) if isinstance(value, list) else (int(value),)
    return ()
