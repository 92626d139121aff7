"""What it takes to move runs of pages between device and host, and between host and disk, beside a plain copy.

    python benchmarks/transfers.py [--pages 64KiB,200KiB,2MiB] [--runs 1,4,16,64] [--size 256MiB] [--json FILE]

Pages have the shape of a model's: layers, K and V, heads, 16 tokens. Each way moves the same bytes in runs of so many
pages, at places far apart: ``store`` and ``load`` between two arenas as the copier does it, ``write`` and ``read`` by
the disk store into the file system of ``--directory``, from and into the host's arena. Given is the share of the speed
of one ``memcpy`` of those bytes, measured before and after in each round: 1.0 is as fast. Ways take turns; of each the
median over the rounds, and the range.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch

from infergc.bench.json_file import write_json
from infergc.heap.groups import GroupSpec
from infergc.heap.moves import Move
from infergc.models.spec import ModelSpec, RopeSpec
from infergc.units import KIB, MIB, format_bytes, parse_bytes
from infergc.worker.disk.news import Read, Written
from infergc.worker.disk.pages import DiskPage
from infergc.worker.disk.store import DiskStore
from infergc.worker.memory.storage import KVStorage, LayerGroups

PAGE, HEAD = 16, 64
SHAPES = {  # bytes of a page → layers, KV heads: of small, middling and large models, in bfloat16
    64 * KIB: (8, 2),
    192 * KIB: (12, 4),
    200 * KIB: (10, 5),
    2 * MIB: (32, 16),
}


def shape_of(size: int) -> tuple[int, int]:
    if size not in SHAPES:
        sizes = ", ".join(format_bytes(each) for each in SHAPES)
        raise argparse.ArgumentTypeError(f"pages of {format_bytes(size)} have no shape here; {sizes} have")
    return SHAPES[size]


class Arenas:
    """Two arenas of as many pages as ``--size`` holds, and a flat copy of as many bytes."""

    def __init__(self, page_bytes: int, size: int) -> None:
        layers, heads = shape_of(page_bytes)
        self.pages, self.page_bytes = size // page_bytes, page_bytes
        self.spec = GroupSpec("full", page_bytes, capacity=self.pages)
        groups = LayerGroups((self.spec,), (0,) * layers)
        self.storage = KVStorage(model_of(layers, heads), groups, (self.spec,), PAGE, self.pages)
        self._flat = torch.ones(2, self.pages * page_bytes, dtype=torch.uint8)
        for kind in ("load", "store"):  # every byte of both is there
            self.storage.transfer(Move(kind, 0, 0, 0, PAGE, self.pages))

    def starts(self, run: int) -> list[int]:
        """Where runs begin, all over, the same each time."""
        every = np.arange(self.pages // run) * run
        return np.random.default_rng(0).permutation(every).tolist()

    def memcpy(self) -> float:
        """Bytes a second."""
        began = perf_counter()
        self._flat[0].copy_(self._flat[1])
        return self.pages * self.page_bytes / (perf_counter() - began)

    def transfers(self, kind: str, run: int) -> float:
        """Bytes a second, from runs in one order to runs in the opposite order."""
        starts = self.starts(run)
        moves = [Move(kind, 0, first, last, PAGE, run) for first, last in zip(starts, starts[::-1], strict=True)]
        began = perf_counter()
        for move in moves:
            self.storage.transfer(move)
        return sum(map(self.storage.size, moves)) / (perf_counter() - began)


class Disk:
    """A disk store over the host arena."""

    def __init__(self, directory: Path, arenas: Arenas) -> None:
        self._arenas, self._numbers = arenas, iter(range(1 << 30))
        self._store = DiskStore(directory, 8 * arenas.pages * arenas.page_bytes, arenas.storage.host, PAGE)
        self._order: list[DiskPage] = []

    def write(self, run: int) -> float:
        """Bytes a second of a job for each run; pages that were not there before."""
        self._order = [page(next(self._numbers), slot) for slot in self._slots(run)]
        began = perf_counter()
        for low in range(0, len(self._order), run):
            self._store.write(self._order[low : low + run])
        done = 0
        while done < len(self._order):
            self._store.wait(1.0)
            news = [one for one in self._store.news() if isinstance(one, Written)]
            assert not any(one.failed for one in news)
            done += sum(len(one.keys) for one in news)
        return self._speed(began)

    def read(self, run: int) -> float:
        """Bytes a second of a job for each run of what was written last, by the system's cache or not."""
        firsts = self._arenas.starts(run)[: len(self._order) // run]
        began = perf_counter()
        for number, low in enumerate(firsts):
            self._store.read(number, self._order[low : low + run])
        done = 0
        while done < len(firsts):
            self._store.wait(1.0)
            news = [one for one in self._store.news() if isinstance(one, Read)]
            assert all(all(one.found) for one in news)
            done += len(news)
        return self._speed(began)

    def close(self) -> None:
        """End its thread."""
        self._store.close()

    def _slots(self, run: int) -> list[int]:
        return [slot for first in self._arenas.starts(run) for slot in range(first, first + run)]

    def _speed(self, began: float) -> float:
        return len(self._order) * self._arenas.page_bytes / (perf_counter() - began)


def page(number: int, slot: int) -> DiskPage:
    tokens = np.full(PAGE, number, np.int32)
    return DiskPage(number.to_bytes(16, "little"), (number + 1).to_bytes(16, "big"), tokens, slot)


def model_of(layers: int, heads: int) -> ModelSpec:
    """As much of a model as storage asks for."""
    return ModelSpec(
        architecture="LlamaForCausalLM", dtype=torch.bfloat16, vocab_size=0, hidden_size=heads * HEAD,
        intermediate_size=0, num_heads=heads, num_kv_heads=heads, head_dim=HEAD, windows=(None,) * layers, max_len=PAGE,
        rms_eps=1e-6, rope=RopeSpec(),
    )  # fmt: skip


def measure(arenas: Arenas, runs: list[int], rounds: int, directory: Path) -> dict[str, list[float]]:
    """Shares of a plain copy by way and pages of a run, one a round; and the plain copy in bytes a second."""
    disk = Disk(directory, arenas)
    ways: dict[str, Callable[[], float]] = {}
    for run in runs:
        ways[f"store {run}"] = lambda run=run: arenas.transfers("store", run)
        ways[f"load {run}"] = lambda run=run: arenas.transfers("load", run)
        ways[f"write {run}"] = lambda run=run: disk.write(run)
        ways[f"read {run}"] = lambda run=run: disk.read(run)
    found: dict[str, list[float]] = {"memcpy": [], **{way: [] for way in ways}}
    for _ in range(rounds):
        for way, speed in ways.items():
            before = arenas.memcpy()
            mine = speed()
            plain = (before + arenas.memcpy()) / 2
            found["memcpy"].append(plain)
            found[way].append(mine / plain)
    disk.close()
    return found


def report(page_bytes: int, found: dict[str, list[float]], runs: list[int]) -> None:
    copied = sorted(found["memcpy"])
    print(f"pages of {format_bytes(page_bytes)}; memcpy {median(copied) / 1e9:.2f} GB/s ({copied[0] / 1e9:.2f} to "
          f"{copied[-1] / 1e9:.2f})")  # fmt: skip
    for way in ("store", "load", "write", "read"):
        cells = []
        for run in runs:
            shares = sorted(found[f"{way} {run}"])
            cells.append(f"{run} pages {median(shares):.3f} ({shares[0]:.3f} to {shares[-1]:.3f})")
        print(f"  {way:5} {'; '.join(cells)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [64 * KIB, 200 * KIB, 2 * MIB]
    parser.add_argument("--pages", type=lambda text: list(map(parse_bytes, text.split(","))), default=sizes)
    parser.add_argument("--runs", type=lambda text: list(map(int, text.split(","))), default=[1, 4, 16, 64])
    parser.add_argument("--size", type=parse_bytes, default=256 * MIB, help="bytes that each way moves")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path, help="where the disk store's files go; default: the system's own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told = {}
    for size in options.pages:
        with TemporaryDirectory(dir=options.directory) as directory:
            told[format_bytes(size)] = found = measure(
                Arenas(size, options.size), options.runs, options.rounds, Path(directory)
            )
        report(size, found, options.runs)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    if options.json is not None:
        write_json(options.json, told)


if __name__ == "__main__":
    main()
