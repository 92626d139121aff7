"""Paged attention cases: random sequences scattered over random extents, with poison wherever nothing may be read.

Shapes: T tokens of the step, S rows, H query heads, G KV heads, D head dim, N pages, P tokens in a page,
L length of a sequence.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from infergc.kernels.api import AttentionBackend, AttentionNeeds, BatchLayout
from infergc.sched.plan import PageTable
from infergc.units import ceil_div

TOLERANCE = {  # one unit in the last place of the output, and a little where it is near zero
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.bfloat16: {"rtol": 2**-7, "atol": 1e-3},
    torch.float16: {"rtol": 2**-10, "atol": 1e-4},
}
ROUNDED_WEIGHTS = {  # where weights are rounded to the dtype before they meet values, as matrix units take them
    torch.float32: TOLERANCE[torch.float32],
    torch.bfloat16: {"rtol": 2**-7, "atol": 2**-6},
    torch.float16: {"rtol": 2**-10, "atol": 2**-9},
}


@dataclass(frozen=True)
class Sequence:
    """One sequence's queries, keys and values at all its positions."""

    q_LHD: torch.Tensor
    k_LGD: torch.Tensor
    v_LGD: torch.Tensor

    def __len__(self) -> int:
        return len(self.q_LHD)


@dataclass(frozen=True)
class Case:
    """Rows of a step: which sequence computes which positions, and how pages are laid out."""

    needs: AttentionNeeds
    sequences: list[Sequence]
    spans: list[tuple[int, int]]  # start, count of each row
    window: int | None = None
    longest_extent: int = 64
    seed: int = 0


@dataclass
class Storage:
    """A layer's pages, and the tables of the rows that hold them."""

    k_NGPD: torch.Tensor
    v_NGPD: torch.Tensor
    layout: BatchLayout
    tables: list[list[tuple[int, int]]] = field(default_factory=list)


def needs(
    dtype: torch.dtype = torch.float32, heads: int = 4, kv_heads: int = 2, head_dim: int = 64, page_tokens: int = 16
) -> AttentionNeeds:
    """Say what a small model needs."""
    return AttentionNeeds("cpu", dtype, heads, kv_heads, head_dim, page_tokens)


def make_case(needs: AttentionNeeds, spans: list[tuple[int, int]], window: int | None = None, seed: int = 0) -> Case:
    """Draw sequences long enough for the spans."""
    draw = torch.Generator().manual_seed(seed)

    def normal(length: int, heads: int, factor: float) -> torch.Tensor:
        return (torch.randn(length, heads, needs.head_dim, generator=draw) * factor).to(needs.dtype)

    sequences = []
    for start, count in spans:
        length = start + count
        sequences.append(
            Sequence(
                normal(length, needs.num_heads, 2.0),
                normal(length, needs.num_kv_heads, 1.0),
                normal(length, needs.num_kv_heads, 1.0),
            )
        )
    return Case(needs, sequences, spans, window, seed=seed)


def alone(case: Case, row: int) -> Case:
    """Keep one row only."""
    return replace(case, sequences=[case.sequences[row]], spans=[case.spans[row]])


def spread(case: Case) -> Storage:
    """Place the rows' pages at random; history is stored, and everything else is not-a-number."""
    rng = np.random.default_rng(case.seed + 1)
    size = case.needs.page_tokens
    ends = [ceil_div(start + count, size) for start, count in case.spans]
    skipped = [_released(start, size, case.window, rng) for start, _ in case.spans]
    total = sum(ends) + 8
    shape = (total, case.needs.num_kv_heads, size, case.needs.head_dim)
    tables = _extents(rng, [end - skip for end, skip in zip(ends, skipped, strict=True)], total, case.longest_extent)
    k_NGPD, v_NGPD = (torch.full(shape, float("nan"), dtype=case.needs.dtype) for _ in range(2))
    for row, (start, _) in enumerate(case.spans):
        position = torch.arange(skipped[row] * size, start)
        page = torch.tensor(_pages(tables[row]))[position // size - skipped[row]]
        k_NGPD[page, :, position % size] = case.sequences[row].k_LGD[position]
        v_NGPD[page, :, position % size] = case.sequences[row].v_LGD[position]
    k_NGPD, v_NGPD = k_NGPD.to(case.needs.device), v_NGPD.to(case.needs.device)
    return Storage(k_NGPD, v_NGPD, _layout(case.spans, tables, skipped), tables)


def run(backend: AttentionBackend, case: Case, storage: Storage | None = None) -> torch.Tensor:
    """Write the rows' new K and V, attend, and return out_THD, on the CPU."""
    storage = storage or spread(case)
    step, device = backend.plan(storage.layout), case.needs.device
    rows = list(zip(case.sequences, case.spans, strict=True))
    q_THD, k_TGD, v_TGD = (
        torch.cat([getattr(sequence, name)[start : start + count] for sequence, (start, count) in rows]).to(device)
        for name in ("q_LHD", "k_LGD", "v_LGD")
    )
    backend.write(step, k_TGD, v_TGD, storage.k_NGPD, storage.v_NGPD)
    scale = case.needs.head_dim**-0.5
    return backend.attend(step, q_THD, storage.k_NGPD, storage.v_NGPD, scale, case.window).cpu()


def in_chunks(backend: AttentionBackend, case: Case, sizes: list[int]) -> torch.Tensor:
    """Compute a case of one row in chunks of the given sizes, over the same storage; the row starts at 0."""
    (length,) = {start + count for start, count in case.spans}
    storage = spread(replace(case, spans=[(0, length)]))
    outputs, start = [], 0
    for size in sizes:
        count = min(size, length - start)
        layout = _layout([(start, count)], storage.tables, [0])
        part = Storage(storage.k_NGPD, storage.v_NGPD, layout)
        outputs.append(run(backend, replace(case, spans=[(start, count)]), part))
        start += count
    assert start == length
    return torch.cat(outputs)


def _released(start: int, size: int, window: int | None, rng: np.random.Generator) -> int:
    """Pages before the window of a row's first position that it may have given back: none, some, or all."""
    if window is None:
        return 0
    return int(rng.integers(0, max(0, start - window + 1) // size + 1))


def _layout(spans: list[tuple[int, int]], tables: list[list[tuple[int, int]]], skipped: list[int]) -> BatchLayout:
    width = max(len(table) for table in tables)
    first, pages = (np.zeros((len(spans), width), np.int32) for _ in range(2))
    for row, table in enumerate(tables):
        for e, (page, count) in enumerate(table):
            first[row, e], pages[row, e] = page, count
    starts, counts = (np.array(column, np.int32) for column in zip(*spans, strict=True))
    return BatchLayout(starts, counts, PageTable(first, pages, np.array(skipped, np.int32)))


def _extents(rng: np.random.Generator, wanted: list[int], total: int, longest: int) -> list[list[tuple[int, int]]]:
    """Cut each row's pages into runs of random length, and give the runs out in random order over storage."""
    runs = []
    for row, pages in enumerate(wanted):
        done = 0
        while done < pages:
            runs.append((row, min(pages - done, int(rng.integers(1, longest + 1)))))
            done += runs[-1][1]
    at = int(rng.integers(0, total - sum(wanted) + 1))
    placed = {}
    for index in rng.permutation(len(runs)).tolist():
        placed[index] = at
        at += runs[index][1]
    tables: list[list[tuple[int, int]]] = [[] for _ in wanted]
    for index, (row, count) in enumerate(runs):
        tables[row].append((placed[index], count))
    return tables


def _pages(table: list[tuple[int, int]]) -> list[int]:
    return [page for first, count in table for page in range(first, first + count)]


def inputs(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of the step's tokens."""
    rows = list(zip(case.sequences, case.spans, strict=True))
    q, k, v = (torch.cat([getattr(s, n)[a : a + c] for s, (a, c) in rows]) for n in ("q_LHD", "k_LGD", "v_LGD"))
    return q, k, v
