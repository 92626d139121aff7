"""Loading a model: its spec, then tensor by tensor from memory-mapped shards into fused weights."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from safetensors import SafetensorError, safe_open

from infergc.models.errors import ModelError
from infergc.models.hf_config import checkpoint_dtype, model_spec, read_config
from infergc.models.spec import ModelSpec
from infergc.models.weights import DecoderWeights, allocate, destinations, ignored
from infergc.worker.checkpoint import Shard, digest, end_tokens, read_shards
from infergc.worker.dtypes import choose_dtype, cpu_flags

_STORED = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
_SHOWN = 8  # tensor names in an error


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Weights with what names and ends their texts."""

    spec: ModelSpec
    weights: DecoderWeights
    digest: str
    eos_ids: tuple[int, ...]


def load_model(directory: Path, dtype: str = "auto", *, progress: bool = False) -> LoadedModel:
    """Load a model from a Hugging Face directory; reads local files only and runs no code from them.

    Args:
        directory: holds config.json and safetensors, single or sharded.
        dtype: ``--dtype``; see ``choose_dtype``.
        progress: draw a progress bar on standard error.

    Raises:
        ModelError: the directory cannot be used; the message names the file or tensor.
        UnsupportedModelError: nor would a sound directory of this kind; the message lists what works.
    """
    if not directory.is_dir():
        raise ModelError(f"{directory} is not a directory; give one in Hugging Face layout")
    config = read_config(directory)
    shards = read_shards(directory)
    stored = checkpoint_dtype(config) or _embedding_dtype(shards)
    spec = model_spec(config, choose_dtype(dtype, stored, cpu_flags()))
    weights = allocate(spec)
    _fill(spec, destinations(spec, weights), shards, progress=progress)
    eos_ids = end_tokens(directory, config.eos_token_id)
    return LoadedModel(spec, weights, digest(shards, repr(spec)), eos_ids)


def _embedding_dtype(shards: tuple[Shard, ...]) -> torch.dtype:
    entries = (shard.tensors.get("model.embed_tokens.weight") for shard in shards)
    stored = next((entry["dtype"] for entry in entries if entry), "F32")
    return _STORED.get(stored, torch.float32)


def _fill(spec: ModelSpec, views: dict[str, torch.Tensor], shards: tuple[Shard, ...], *, progress: bool) -> None:
    _check_names(spec, set(views), shards)
    with _progress_bar(sum(view.nbytes for view in views.values()), shown=progress) as bar:
        for shard in shards:
            for name, stored in _tensors(shard, set(views)):
                _copy(name, stored, views[name], shard.path)
                bar.advance(bar.task_ids[0], views[name].nbytes)


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


def _tensors(shard: Shard, wanted: set[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The shard's wanted tensors in file order, each a view of the mapped file."""
    names = sorted(wanted & shard.tensors.keys(), key=lambda name: shard.tensors[name]["data_offsets"][0])
    try:
        with safe_open(shard.path, framework="pt") as file:
            for name in names:
                yield name, file.get_tensor(name)
    except SafetensorError as error:
        raise ModelError(f"{shard.path} is damaged: {error}") from error


def _copy(name: str, stored: torch.Tensor, view: torch.Tensor, path: Path) -> None:
    if stored.shape != view.shape or stored.dtype not in _STORED.values():
        raise ModelError(
            f"{path}: {name} is {tuple(stored.shape)} {stored.dtype}; "
            f"config.json asks for {tuple(view.shape)} in floating point"
        )
    view.copy_(stored)


@contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[Progress]:
    columns = (TextColumn("Loading weights"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, console=Console(file=sys.stderr), disable=not shown) as bar:
        bar.add_task("", total=total)
        yield bar
