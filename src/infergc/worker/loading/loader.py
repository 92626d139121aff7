"""Loading a model: its spec, then piece by piece from the shards' files into fused weights."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

import torch

from infergc.hf.errors import ModelError
from infergc.models.hf_config import checkpoint_dtype, model_spec, read_config
from infergc.models.spec import ModelSpec
from infergc.models.weights import DecoderWeights, allocate, destinations, ignored
from infergc.worker.loading.checkpoint import Shard, digest, end_tokens, read_shards
from infergc.worker.loading.dtypes import choose_dtype

_STORED = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
_SHOWN = 8  # tensor names in an error
_PIECE = 4 << 20  # bytes read at once: mapped files would count as ours until they are unmapped


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What a model directory says, with the weights not read yet: the model's shape, what names and ends its texts."""

    spec: ModelSpec
    shards: tuple[Shard, ...]
    digest: str
    eos_ids: tuple[int, ...]


def open_model(directory: Path, dtype: str = "auto") -> ModelSource:
    """Read everything of a Hugging Face directory but the weights; local files only, and no code from them.

    Args:
        directory: holds config.json and safetensors, single or sharded.
        dtype: ``--dtype``; see ``choose_dtype``.

    Raises:
        ModelError: the directory cannot be used; the message names the file or tensor.
        UnsupportedModelError: nor would a sound directory of this kind; the message lists what works.
    """
    if not directory.is_dir():
        raise ModelError(f"{directory} is not a directory; give one in Hugging Face layout")
    config = read_config(directory)
    shards = read_shards(directory)
    stored = checkpoint_dtype(config) or _embedding_dtype(shards)
    spec = model_spec(config, choose_dtype(dtype, stored))
    return ModelSource(spec, shards, digest(shards, repr(spec)), end_tokens(directory, config.eos_token_id))


def load_weights(source: ModelSource, device: torch.device | None = None, *, progress: bool = False) -> DecoderWeights:
    """Read the weights. Beside them this takes no more than one buffer of 4 MiB.

    Args:
        source: from ``open_model``.
        device: where they are to be; None: the host.
        progress: draw a progress bar on standard error.

    Raises:
        ModelError: a tensor is missing, unknown or of the wrong shape, or a file is damaged.
    """
    with torch.device(device or "cpu"):
        weights = allocate(source.spec)
    _fill(source.spec, destinations(source.spec, weights), source.shards, progress=progress)
    return weights


def _embedding_dtype(shards: tuple[Shard, ...]) -> torch.dtype:
    entries = (shard.tensors.get("model.embed_tokens.weight") for shard in shards)
    stored = next((entry["dtype"] for entry in entries if entry), "F32")
    return _STORED.get(stored, torch.float32)


def _fill(spec: ModelSpec, views: dict[str, torch.Tensor], shards: tuple[Shard, ...], *, progress: bool) -> None:
    _check_names(spec, set(views), shards)
    with _progress_bar(sum(view.nbytes for view in views.values()), shown=progress) as advance:
        for shard in shards:
            with shard.path.open("rb", buffering=0) as file:
                for name in sorted(views.keys() & shard.tensors.keys(), key=shard.offset):
                    _read(file, shard, name, views[name])
                    advance(views[name].nbytes)


def _check_names(spec: ModelSpec, wanted: set[str], shards: tuple[Shard, ...]) -> None:
    stored = {name for shard in shards for name in shard.tensors}
    missing = sorted(wanted - stored)
    unexpected = sorted(name for name in stored - wanted if not ignored(spec, name))
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if problems:
        directory = shards[0].path.parent
        raise ModelError(f"{directory}: tensors do not match {spec.architecture}: {'; '.join(problems)}")


def _read(file: FileIO, shard: Shard, name: str, view: torch.Tensor) -> None:
    """Read a tensor, converted, some rows at a time."""
    stored, shape = _STORED.get(shard.tensors[name]["dtype"]), tuple(shard.tensors[name]["shape"])
    if stored is None or shape != view.shape:
        raise ModelError(
            f"{shard.path}: {name} is {shape} {shard.tensors[name]['dtype']}; "
            f"config.json asks for {tuple(view.shape)} in floating point"
        )
    file.seek(shard.offset(name))
    row_bytes = max(1, view[0].numel() * stored.itemsize)
    for rows in torch.split(view, max(1, _PIECE // row_bytes)):
        piece = bytearray(rows.numel() * stored.itemsize)
        if file.readinto(piece) != len(piece):
            raise ModelError(f"{shard.path} is damaged: {name} ends before its time")
        rows.copy_(torch.frombuffer(piece, dtype=stored).view(rows.shape))


@contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """What is told of bytes that were read."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - benchmarks load models where it is not installed
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("Loading weights"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        yield partial(bar.advance, bar.add_task("", total=total))
