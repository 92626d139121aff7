"""What retention policies keep of recorded loads: hit rates by pool, over the second half of a trace, and their cost.

    python benchmarks/retention.py hits TRACE --blocks 1000 3000 10000 20000 [--policies lru generational belady]
                                        [--json FILE] [--plot FILE] [--processes N]
    python benchmarks/retention.py cost TRACE --blocks 3000 [--requests 1500] [--rounds 5]

``hits`` replays the prompts one by one through the engine (``infergc simulate --replay cache``). Pools are in blocks of
512 tokens. The rate is the share of the prompts' pages that lay in the leading run found, of requests of the trace's
second half in time; what was seen in the first half is kept, and on that half alone policies may be tuned. "Of the
way" is how much of the step from LRU to Belady's offline bound a policy makes.

``cost`` drives the heap alone through the same prompts: open, share, reserve, publish, close. Rounds of all policies
take turns; the figure is the median of processor time over that of LRU in the same round.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np

from infergc.engine.assembly import RETENTIONS
from infergc.heap.groups import GroupSpec
from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace
from infergc.heap.objects import TokenLog
from infergc.heap.stats import HeapConfig
from infergc.sim.catalog import geometry_named
from infergc.sim.named import requests_named
from infergc.sim.requests import TraceRequest
from infergc.sim.simulate import Setup, simulate
from infergc.sim.targets import cost_on
from infergc.units import ceil_div

PAGE_TOKENS = 16
BLOCK_TOKENS = 512
_HARDLY = 0.01  # of pages: less says nothing of who is nearer
MODEL, DEVICE = "llama-3-8b", "a100-80g"  # of no concern to what is hit


@dataclass(frozen=True, slots=True)
class Hits:
    """Of one run: the share of pages hit, of all requests and of those of the second half."""

    policy: str
    blocks: int
    all: float
    second_half: float
    seconds: float


def main() -> None:
    """Measure and print a table."""
    args = _arguments()
    (_hits if args.command == "hits" else _cost)(args)


def _hits(args: argparse.Namespace) -> None:
    todo = [(args.trace, policy, blocks) for blocks, policy in product(args.blocks, args.policies)]
    found: list[Hits] = []
    with get_context("fork").Pool(args.processes) as pool:
        for hits in pool.imap(_replay, todo):
            found.append(hits)
            print(f"{hits.policy} {hits.blocks}: {hits.second_half:.4f} ({hits.seconds:.0f} s)", file=sys.stderr)
    rates = {(hits.policy, hits.blocks): hits.second_half for hits in found}
    _show(args.policies, args.blocks, rates)
    if args.json:
        runs = [{field: getattr(hits, field) for field in Hits.__slots__} for hits in found]
        args.json.write_text(json.dumps({"trace": Path(args.trace).name, "runs": runs}, indent=1))
    if args.plot:
        _plot(args.plot, Path(args.trace).name, args.policies, args.blocks, rates)


def _replay(todo: tuple[str, str, int]) -> Hits:
    trace, policy, blocks = todo
    requests, model = requests_named(trace)[0], geometry_named(MODEL)
    began = time.process_time()
    kv_bytes = blocks * BLOCK_TOKENS * model.kv_bytes_per_token
    run = simulate(Setup(model, cost_on(DEVICE, model), kv_bytes, policy, "cache"), requests)
    seconds = time.process_time() - began
    middle = (requests[0].arrival + requests[-1].arrival) / 2
    halves = np.zeros((2, 2), np.int64)
    for fate in run.fates:
        row = halves[int(fate.request.arrival >= middle)]
        row += (fate.cached // PAGE_TOKENS, ceil_div(fate.request.input_len, PAGE_TOKENS))
    hit, asked = halves.sum(0)
    return Hits(policy, blocks, float(hit / asked), float(halves[1, 0] / halves[1, 1]), seconds)


def _show(policies: list[str], pools: list[int], rates: dict[tuple[str, int], float]) -> None:
    """A row a policy: rate and ratio to LRU by pool, their geometric mean, and how far of the way to Belady."""
    print(f"{'policy':14}" + "".join(f"{blocks:>16,}" for blocks in pools) + f"{'mean':>8}")
    for policy in policies:
        own = [rates[policy, blocks] for blocks in pools]
        ratios = [rate / (rates["lru", blocks] or 1.0) for rate, blocks in zip(own, pools, strict=True)]
        mean = geometric_mean(ratios) if all(ratios) else 0.0
        cells = "".join(f"{rate:>9.4f} {ratio:>5.2f}x" for rate, ratio in zip(own, ratios, strict=True))
        print(f"{policy:14}{cells}{mean:>7.2f}x")
    if "belady" not in policies:
        return
    print("of the way from lru to belady (-: there is hardly any):")
    for policy in policies:
        ways = [_way(rates[policy, at], rates["lru", at], rates["belady", at]) for at in pools]
        print(f"{policy:14}" + "".join(f"{way:>16}" for way in ways))


def _way(rate: float, lru: float, belady: float) -> str:
    return f"{(rate - lru) / (belady - lru):.0%}" if belady - lru > _HARDLY else "-"


def _plot(file: Path, title: str, policies: list[str], pools: list[int], rates: dict[tuple[str, int], float]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for policy in policies:
        wide = 2.5 if policy == "generational" else 1.2
        style = "--" if policy == "belady" else "-"
        axes.plot(pools, [rates[policy, at] for at in pools], style, marker="o", ms=3, lw=wide, label=policy)
    axes.set(xscale="log", xlabel="pool, blocks of 512 tokens", ylabel="share of prompt pages hit", title=title)
    axes.set_xticks(pools, [f"{at:,}" for at in pools])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(file, dpi=110)


def _cost(args: argparse.Namespace) -> None:
    requests, _ = requests_named(args.trace)
    prompts = [_prompt(request, number) for number, request in enumerate(requests[: args.requests])]
    pages = sum(len(prompt) for prompt in prompts) // PAGE_TOKENS
    taken: dict[str, list[float]] = {policy: [] for policy in args.policies if policy in RETENTIONS}
    for _ in range(args.rounds):
        for policy, times in taken.items():
            times.append(_drive(policy, prompts, args.blocks[0] * BLOCK_TOKENS // PAGE_TOKENS))
    print(f"{'policy':14}{'µs a request':>14}{'ns a page':>11}{'of lru':>8}   rounds")
    for policy, times in taken.items():
        ratios = [own / lru for own, lru in zip(times, taken["lru"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        each = median(times) / len(prompts) * 1e6
        print(f"{policy:14}{each:>14.0f}{median(times) / pages * 1e9:>11.0f}{median(ratios):>7.2f}x   {spread}")


def _prompt(request: TraceRequest, number: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array(request.prompt(number), np.int32)


def _drive(policy: str, prompts: list[Any], pages: int) -> float:
    """Seconds of processor time for all prompts, each computed whole and closed."""
    heap = Heap(HeapConfig((GroupSpec("all", 1, None, pages),), PAGE_TOKENS, 4), RETENTIONS[policy]())
    began = time.process_time()
    for prompt in prompts:
        sequence = heap.open("r", TokenLog(prompt), Namespace("m"))
        assert sequence is not None, "a slot is free"
        cached = heap.share_prefix(sequence, len(prompt) - 1)
        heap.asked(sequence, len(prompt))
        assert heap.reserve([(sequence, len(prompt))]), "the pool is larger than any prompt"
        row = (np.array([fact], np.int32) for fact in (sequence.slot, cached, len(prompt) - cached))
        step = heap.planning
        heap.begin_step(*row)
        heap.take_moves()
        heap.complete(step)
        heap.publish(sequence, len(prompt))
        heap.close(sequence)
    return time.process_time() - began


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("hits", "cost"))
    parser.add_argument("trace", help="a file, or a made-up workload such as rag:requests=2000")
    parser.add_argument("--blocks", type=int, nargs="+", default=[1000, 3000, 10_000, 20_000])
    parser.add_argument("--policies", nargs="+", default=[*RETENTIONS, "belady"])
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    args.policies = ["lru", *(policy for policy in args.policies if policy != "lru")]  # the others' measure
    return args


if __name__ == "__main__":
    main()
