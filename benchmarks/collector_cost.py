"""What the collector costs: its pauses over a large heap, and tokens a second with it and without.

    python benchmarks/collector_cost.py [--pages 100000 --running 256] [--model DIR --load 32x256x128 --pairs 5]

The first part runs the engine without a model, requests beginning and ending all the time: every pause in which the
collector did anything is timed. The second, where a model is given, runs the same load with ``gc`` on and off in turns.
"""

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

from infergc.bench.control import MODEL, ControlLoad, IdleExecutor
from infergc.bench.workload import Load, parse_load
from infergc.config import engine_config
from infergc.engine.assembly import assemble
from infergc.engine.loop import Engine
from infergc.engine.pacing import Pauses
from infergc.llm import LLM
from infergc.params import SamplingParams
from infergc.sim.executor import facts_of


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
    executor = IdleExecutor(facts_of(MODEL, 16))
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


def speed(model: Path, load: Load, number: int, gc: str) -> tuple[float, float]:
    """Output tokens a second of one round, and the share of its time that the collector took."""
    with LLM(model, gc=gc) as llm:
        params = SamplingParams(max_tokens=load.output_len, temperature=0, ignore_eos=True, seed=0)
        for at in (1000, number):  # the first warms up
            prompts = [{"prompt_token_ids": prompt} for prompt in load.prompts(at, llm.ready.vocab_size)]
            before = llm.stats["collector"]["pause_seconds"] if at != 1000 else 0.0
            began = perf_counter()
            llm.generate(prompts, params, use_tqdm=False)
            seconds = perf_counter() - began
        spent = llm.stats["collector"]["pause_seconds"] - before
    return load.requests * load.output_len / seconds, spent / seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--pages", type=int, default=100_000)
    parser.add_argument("--running", type=int, default=256)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--load", type=parse_load, default="32x256x128")
    parser.add_argument("--pairs", type=int, default=5)
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
        pairs = []
        for at in range(args.pairs):
            order = ("on", "off") if at % 2 else ("off", "on")
            pairs.append({gc: speed(args.model, args.load, at, gc) for gc in order})
        ratio = sorted(pair["on"][0] / pair["off"][0] for pair in pairs)
        share = median(pair["on"][1] for pair in pairs)
        spread = f"{median(ratio):.3f} ({ratio[0]:.3f} to {ratio[-1]:.3f})"
        print(f"tokens a second, collector on over off: {spread}; it takes {share:.3%} of the time")


if __name__ == "__main__":
    main()
