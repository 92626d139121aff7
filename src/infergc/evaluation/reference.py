"""The reference: the same engine with nothing lost of its KV; and names for models and settings."""

import hashlib
from pathlib import Path
from typing import Any

from infergc.config import EngineConfig
from infergc.evaluation.record import key_of

# Settings by which KV may lose something: whoever adds one puts it here. An executor of one's own may do anything.
LOSSY = ("kv_cache_dtype", "executor")
_BESIDE = {"model", "log_level", "disk_cache_dir"}  # they change no figure, or are named by what they hold

_WHOLE = 64 << 20  # bytes: a larger file is sampled
_PIECE = 64 << 10
_PIECES = 64
_SUFFIXES = {".json", ".safetensors", ".model", ".txt"}


def full_precision(config: EngineConfig) -> EngineConfig:
    """The configuration with every lossy setting at its default."""
    return config.model_copy(update={name: EngineConfig.model_fields[name].default for name in LOSSY})


def lossy_settings(config: EngineConfig) -> dict[str, Any]:
    """Those of its lossy settings that are not at their defaults."""
    settings, plain = settings_of(config), settings_of(full_precision(config))
    return {name: settings[name] for name in LOSSY if settings[name] != plain[name]}


def settings_of(config: EngineConfig) -> dict[str, Any]:
    """Its settings as plain data, without those that no figure depends on."""
    return config.model_dump(mode="json", exclude=_BESIDE)


def settings_digest(config: EngineConfig) -> str:
    """A name for them."""
    return key_of(settings_of(config))


def model_digest(directory: Path) -> str:
    """A name for what a model directory holds, by its files' names and contents; of large ones, pieces of these."""
    state = hashlib.blake2b(digest_size=16)
    for file in sorted(each for each in directory.iterdir() if each.suffix in _SUFFIXES and each.is_file()):
        size = file.stat().st_size
        state.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE:
                state.update(stream.read())
                continue
            for piece in range(_PIECES):
                stream.seek((size - _PIECE) * piece // (_PIECES - 1))
                state.update(stream.read(_PIECE))
    return state.hexdigest()
