"""Writes the model folder whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from demo_model.training import ROPE_THETA

WRITTEN = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


class OutputError(ValueError):
    """The output folder cannot be written, or holds files that are not this tool's to replace."""


def check_output(out: Path) -> None:
    """Raise OutputError where `out` is a file or holds anything but an earlier model of this tool."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out {out} is a file; give a directory")
    others = sorted({entry.name for entry in out.iterdir()} - WRITTEN) if out.exists() else []
    if others:
        raise OutputError(f"--out {out} holds other files ({others[0]}, …); give a new or an empty directory")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `out` when the block ends, unless the block raises."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        fresh, old = Path(scratch) / "new", Path(scratch) / "old"
        fresh.mkdir()
        yield fresh
        if out.exists():
            out.rename(old)
        try:
            fresh.rename(out)
        except BaseException:
            if old.exists():
                old.rename(out)
            raise


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights in bf16, configs and tokenizer, as transformers and its kin read them."""
    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.8,
        top_p=0.95,
    )
    logging.disable_progress_bar()
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    (folder / "model.safetensors").chmod(0o644)  # written as private, unlike the others
    _widen_readers(folder)


def _widen_readers(folder: Path) -> None:
    """Add the fields that readers older than transformers 5 look for."""
    update_json(folder / "config.json", {"rope_theta": ROPE_THETA, "torch_dtype": "bfloat16"})
    update_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


def update_json(file: Path, fields: dict[str, object]) -> None:
    """Add fields to a JSON object, or replace them."""
    content = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def rounded_to_bf16(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Round the fp32 weights to what bf16 keeps, in place, so that what is measured is what is saved."""
    rounded: LlamaForCausalLM = model.to(torch.bfloat16).to(torch.float32)
    return rounded
