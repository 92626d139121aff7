"""Requests as long as those of real traffic: made up from its quantiles, or read from its traces."""

import csv
import gzip
import json
from math import log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from laws.churn import Request

_Z90 = 1.2816  # the standard normal's 90 % quantile
_BLOCK = 512  # tokens that one hash id of the Mooncake trace stands for


def azure_like(count: int, seed: int) -> list[Request]:
    """Azure's conversations of 2023: prompts p50 1025, p90 4077; outputs p50 116, p90 424."""
    rng = np.random.default_rng(seed)
    return _unique(_lognormal(rng, count, 1025, 4077, 14_000), _lognormal(rng, count, 116, 424, 1500))


def mooncake_like(count: int, seed: int) -> list[Request]:
    """Mooncake's conversations: prompts p50 7.3k, p90 28k, at most 124k; outputs p50 356, p90 606, at most 2000."""
    rng = np.random.default_rng(seed)
    return _unique(_lognormal(rng, count, 7300, 28_000, 124_000), _lognormal(rng, count, 356, 606, 2000))


def azure_trace(folder: Path, count: int) -> list[Request]:
    """The first requests of the recorded Azure conversations: lengths only, so prompts share nothing."""
    with (folder / "azure2023_conv_1815-1850.csv").open(newline="") as file:
        rows = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)][:count]
    return _unique([prompt for prompt, _ in rows], [output for _, output in rows])


def mooncake_trace(folder: Path, count: int) -> list[Request]:
    """The first requests of the recorded Mooncake conversations, with the prefixes that they share."""
    with gzip.open(folder / "mooncake_conversation_000-040min.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for _, line in zip(range(count), file, strict=False)]
    return [Request(_blocks(row["hash_ids"])[: row["input_length"]], max(1, row["output_length"])) for row in rows]


def _blocks(ids: list[int]) -> NDArray[np.int32]:
    starts = np.array(ids, np.int32) * np.int32(_BLOCK)
    return (starts[:, None] + np.arange(_BLOCK, dtype=np.int32)).reshape(-1).astype(np.int32)


def _lognormal(rng: np.random.Generator, count: int, p50: float, p90: float, most: int) -> list[int]:
    """Lengths whose logarithms are normal, by two quantiles."""
    lengths = rng.lognormal(log(p50), log(p90 / p50) / _Z90, count)
    return [int(length) for length in np.clip(lengths, 1, most)]


def _unique(prompts: list[int], outputs: list[int]) -> list[Request]:
    """Prompts that share no token id."""
    starts = np.cumsum([0, *prompts])[:-1].tolist()
    return [
        Request(np.arange(start, start + prompt, dtype=np.int32), max(1, output))
        for start, prompt, output in zip(starts, prompts, outputs, strict=True)
    ]
