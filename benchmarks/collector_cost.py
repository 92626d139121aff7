"""What the collector costs: its pauses over a large heap, and tokens a second with it and without.

    python benchmarks/collector_cost.py [--pages 100000 --running 256] [--model DIR --load 32x256x128 --pairs 20]

The first part runs the engine without a model, requests beginning and ending all the time: every pause in which the
collector did anything is timed. The second, where a model is given, runs the same loads in one engine, its collector
on and off in turns.
"""

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

from infergc.bench.control import ControlLoad, IdleExecutor, facts
from infergc.bench.workload import FIRST_ID, Load, parse_load
from infergc.config import engine_config
from infergc.engine.assembly import assemble, build_engine
from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.engine.pacing import Pauses
from infergc.params import SamplingParams


class TimedPauses(Pauses):
    """Pauses one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[float] = []

    def add(self, seconds: float, units: dict[str, int]) -> None:
        """Count one."""
        super().add(seconds, units)
        self.all.append(seconds)


def churn(pages: int, running: int) -> tuple[Engine, list[float]]:
    """Run requests through an engine whose pool has so many pages; returns it, and the pauses in seconds."""
    executor = IdleExecutor(facts(16))
    load = ControlLoad(running, waves=8, shared_prefix=128)
    config = engine_config(
        model=".",
        kv_cache_memory=pages * sum(group.page_bytes for group in executor.facts.groups),
        max_model_len=load.longest,
        max_num_seqs=running,
        max_num_batched_tokens=8192,
    )
    engine = assemble(config, executor)
    pauses = engine.pacer.pauses = TimedPauses()
    engine.step(load.requests("churn"))
    while engine.has_work():
        engine.step()
    return engine, pauses.all


def rounds(engine: Engine, load: Load, pairs: int) -> tuple[list[float], float, int]:
    """Rounds of a load through one engine with its collector on and off in turns.

    Both of a pair have the same prompts, but for the first id, so that neither finds the other's pages, and each
    comes first in every other pair. Returns time off over time on of each pair, so tokens a second on over off; the
    collector's share of the time of the rounds in which it was on; and the collections it ran.
    """
    pacer, ratios = engine.pacer, list[float]()
    collector = pacer.collector.counters
    run_round(engine, load, -1, first=0)  # warms up
    spent, collected, on = pacer.pauses.seconds, collector.minor + collector.major, 0.0
    for at in range(pairs):
        seconds = {}
        for place, pacer.on in enumerate((True, False) if at % 2 else (False, True)):
            seconds[pacer.on] = run_round(engine, load, at, first=place)
        ratios.append(seconds[False] / seconds[True])
        on += seconds[True]
    return ratios, (pacer.pauses.seconds - spent) / on, collector.minor + collector.major - collected


def run_round(engine: Engine, load: Load, number: int, first: int) -> float:
    """Seconds for the requests of one round."""
    params = SamplingParams(max_tokens=load.output_len, temperature=0, ignore_eos=True, seed=0)
    prompts = load.prompts(number, engine.ready.vocab_size)
    began = perf_counter()
    engine.step(
        [
            Submit(f"{number}-{first}-{at}", [FIRST_ID - 1 - first, *prompt[1:]], params)
            for at, prompt in enumerate(prompts)
        ]
    )
    while engine.has_work():
        engine.step()
    return perf_counter() - began


def report_rounds(args: argparse.Namespace) -> None:
    """Print what the collector costs under each load."""
    settings = {"gc_minor_pages": args.gc_minor_pages} if args.gc_minor_pages else {}
    engine = build_engine(engine_config(model=args.model, **settings))
    for load in args.load or [parse_load("32x256x128")]:
        ratios, share, collections = rounds(engine, load, args.pairs)
        ratios.sort()
        middle = (
            f"{median(ratios):.4f}, half of them {ratios[len(ratios) // 4]:.4f} to {ratios[-1 - len(ratios) // 4]:.4f}"
        )
        print(
            f"{load}: tokens a second with the collector on over off, median of {len(ratios)} pairs {middle}; "
            f"{collections} collections took {share:.4%} of the time"
        )
    engine.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--pages", type=int, default=100_000)
    parser.add_argument("--running", type=int, default=256)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--load", type=parse_load, action="append", help="REQUESTSxINPUTxOUTPUT; may be repeated")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument(
        "--gc-minor-pages", type=int, help="of the engine with a model; less than its default: more work"
    )
    args = parser.parse_args()
    engine, pauses = churn(args.pages, args.running)
    pauses.sort()
    counters = engine.pacer.collector.counters
    p99, steps = pauses[int(0.99 * len(pauses))] * 1e6, engine.counters.steps
    print(
        f"{steps} steps over {args.pages:,} pages, {args.running} sequences: {len(pauses)} pauses, median "
        f"{median(pauses) * 1e6:.0f} µs, p99 {p99:.0f} µs, longest {pauses[-1] * 1e6:.0f} µs; "
        f"{counters.minor} minor and {counters.major} major collections; {sum(pauses) * 1e6 / steps:.1f} µs a step"
    )
    if args.model is not None:
        report_rounds(args)


if __name__ == "__main__":
    main()
