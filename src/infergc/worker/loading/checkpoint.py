"""The files of a model directory: safetensors shards, their headers, the weights digest, the end tokens.

A safetensors file is an 8-byte little-endian length, a JSON header of that length (tensor name → dtype,
shape, byte range) and the tensors' bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infergc.hf.errors import ModelError

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_WHOLE = 4096  # tensors up to this many bytes are digested whole
_SAMPLE = 512  # of larger ones this many bytes, at the start, the middle and the end


@dataclass(frozen=True, slots=True)
class Shard:
    """One safetensors file: its header as stored, and each tensor's entry with byte offsets."""

    path: Path
    header: bytes
    tensors: Mapping[str, Mapping[str, Any]]

    @property
    def data_start(self) -> int:
        """Offset of the first tensor byte in the file."""
        return 8 + len(self.header)

    def offset(self, name: str) -> int:
        """Offset of a tensor's first byte in the file."""
        begin: int = self.tensors[name]["data_offsets"][0]
        return self.data_start + begin


def read_shards(directory: Path) -> tuple[Shard, ...]:
    """The directory's shards, by file name.

    Raises:
        ModelError: it holds no safetensors; a shard is missing, truncated or malformed.
    """
    return tuple(_read_shard(path) for path in _shard_paths(directory))


def digest(shards: tuple[Shard, ...], settings: str) -> str:
    """Hex digest that names weights and whatever else shapes their KV.

    Covers ``settings``, every shard's name and header (names, dtypes, shapes), all bytes of tensors up to
    4 KiB, and 512 bytes at the start, middle and end of every larger one. A fine-tune changes some of these; a
    forged file that keeps them is not told apart.
    """
    state = hashlib.blake2b(settings.encode(), digest_size=16)
    for shard in shards:
        state.update(shard.path.name.encode() + b"\0" + shard.header)
        with shard.path.open("rb") as file:
            for name in sorted(shard.tensors):
                begin, end = shard.tensors[name]["data_offsets"]
                for start, size in _samples(end - begin):
                    file.seek(shard.data_start + begin + start)
                    state.update(file.read(size))
    return state.hexdigest()


def end_tokens(directory: Path, fallback: int | list[int] | None) -> tuple[int, ...]:
    """Ids that end a text: generation_config.json's ``eos_token_id``, or ``fallback`` where it has none.

    Raises:
        ModelError: generation_config.json is not a JSON object.
    """
    path = directory / "generation_config.json"
    found = _read_json(path).get("eos_token_id") if path.is_file() else None
    found = fallback if found is None else found
    return tuple(found) if isinstance(found, list) else () if found is None else (found,)


def _shard_paths(directory: Path) -> list[Path]:
    index = directory / _INDEX
    if index.is_file():
        try:
            names = sorted(set(_read_json(index)["weight_map"].values()))
        except (KeyError, TypeError, AttributeError):
            raise ModelError(f"{index} holds no weight_map from tensor to file name") from None
        return [directory / Path(name).name for name in names]
    if (directory / _SINGLE).is_file():
        return [directory / _SINGLE]
    pickles = sorted(path.name for path in (*directory.glob("*.bin"), *directory.glob("*.pt*")))
    if pickles:
        raise ModelError(
            f"{directory} holds weights only as pickles ({pickles[0]}), which can run code and are not "
            "loaded; convert them to safetensors"
        )
    raise ModelError(f"{directory} holds neither {_SINGLE} nor {_INDEX}")


def _read_shard(path: Path) -> Shard:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 + length:
                raise ModelError(f"{path} is truncated: its header is not complete")
            header = file.read(length)
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        needed = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; {_INDEX} names it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    if size < needed:
        raise ModelError(f"{path} is truncated: it has {size} bytes and its header announces {needed}")
    return Shard(path, header, tensors)


def _samples(size: int) -> list[tuple[int, int]]:
    if size <= _WHOLE:
        return [(0, size)]
    return [(start, _SAMPLE) for start in (0, (size - _SAMPLE) // 2, size - _SAMPLE)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} does not hold a JSON object")
    return content
