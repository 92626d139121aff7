"""How fast the CPU attention kernels run: decode against copy bandwidth, prefill in GFLOP/s.

    python benchmarks/attention_bench.py [--threads N] [--isa NAME] [--heads 32] [--kv-heads 8] [--head-dim 128]

Decode is 8 sequences of 2048 tokens: bytes of K and V read per second. Prefill is one prompt of 2048 tokens in
one chunk: 4 · H · D operations for each pair of a query and a key it sees. Best of several runs.
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from infergc.kernels.api import AttentionNeeds, BatchLayout
from infergc.kernels.cpu.backend import CpuAttention
from infergc.kernels.cpu.threads import CpuThreads
from infergc.sched.plan import PageTable

PAGE_TOKENS = 16
CONTEXT = 2048


def main() -> None:
    """Measure and print a table."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    copied = _copy_bandwidth()
    _show(f"copy bandwidth, read + write: {copied:.1f} GB/s with {args.threads} threads")
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        needs = AttentionNeeds("cpu", dtype, args.heads, args.kv_heads, args.head_dim, PAGE_TOKENS)
        attention = CpuAttention(needs, CpuThreads(args.threads), args.isa)
        read = _kv_bytes(needs, rows=8) / _seconds(attention, needs, rows=8, count=1)
        pairs = CONTEXT * (CONTEXT + 1) / 2
        operations = 4 * pairs * args.heads * args.head_dim
        prefill = operations / _seconds(attention, needs, rows=1, count=CONTEXT)
        small = _seconds(attention, needs, rows=64, count=1, context=64)
        _show(
            f"{attention.isa:12} {str(dtype).removeprefix('torch.'):9} decode {read / 1e9:6.1f} GB/s "
            f"({read / 1e9 / copied:4.0%} of copy)   prefill {prefill / 1e9:6.1f} GFLOP/s   "
            f"64 rows of 64 tokens {small * 1e6:6.0f} µs"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("threads", 2), ("heads", 32), ("kv-heads", 8), ("head-dim", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--isa", default="auto")
    return parser.parse_args()


def _kv_bytes(needs: AttentionNeeds, rows: int) -> int:
    return 2 * rows * CONTEXT * needs.num_kv_heads * needs.head_dim * needs.dtype.itemsize


def _copy_bandwidth() -> float:
    source = torch.zeros(1 << 26, dtype=torch.float32)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source)) / 1e9


def _seconds(attention: CpuAttention, needs: AttentionNeeds, *, rows: int, count: int, context: int = CONTEXT) -> float:
    """Seconds of one call of attend for rows that compute their last ``count`` positions."""
    pages = context // PAGE_TOKENS
    shape = (rows * pages, needs.num_kv_heads, PAGE_TOKENS, needs.head_dim)
    k_NGPD, v_NGPD = (torch.randn(shape).to(needs.dtype) for _ in range(2))
    q_THD = torch.randn(rows * count, needs.num_heads, needs.head_dim).to(needs.dtype)
    first = (np.arange(rows, dtype=np.int32) * pages)[:, None]
    table = PageTable(first, np.full((rows, 1), pages, np.int32), np.zeros(rows, np.int32))
    starts, counts = np.full(rows, context - count, np.int32), np.full(rows, count, np.int32)
    step = attention.plan(BatchLayout(starts, counts, table))
    scale = needs.head_dim**-0.5
    return _best(lambda: attention.attend(step, q_THD, k_NGPD, v_NGPD, scale, None))


def _best(run: Callable[[], object], seconds: float = 1.0) -> float:
    run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def _show(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
