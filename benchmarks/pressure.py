"""What preemption costs when the pool is too small: who gives way is computed again, or swapped to the host tier.

    python benchmarks/pressure.py MODEL_DIR [--load 24x256x384] [--choices 1] [--pool 0.25] [--host 1.5] [--rounds 3]
        [--ways "no host,auto"] [--setting max_num_seqs=128] [--json FILE]

Every round runs the same requests through a pool of that share of what they hold together at their longest: without a
host tier, where what gave way is computed again; with one of ``--host`` times the demand, by each answer of
``--preemption``; and through a pool that holds everything. The ways take turns. Texts have to be the same in all.

``--fits N`` instead asks what a host tier costs where nothing has to leave: N engines without and N with one, all in
this process, run the load in turns; the more of each, the less it matters where in memory one happens to lie.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time
from typing import Any

from infergc.bench.workload import Load, parse_load
from infergc.config import engine_config
from infergc.engine.assembly import build_engine
from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.params import SamplingParams
from infergc.sched.request import Request
from infergc.units import ceil_div, format_bytes


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one way in one round.

    Attributes:
        tokens_a_second: of output.
        processor_seconds: of all threads: less at the mercy of what else the machine does.
        recomputed: share of the tokens computed that had been computed before.
        preemptions: in all; ``most`` and ``p99`` of one request.
        swapped: of them.
        promoted, demoted: pages copied up and down; ``runs`` in how many pieces.
        texts: digest of what was said.
    """

    tokens_a_second: float
    processor_seconds: float
    recomputed: float
    preemptions: int
    most: int
    p99: int
    swapped: int
    promoted: int
    demoted: int
    runs: int
    texts: str


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--load", type=parse_load, default=parse_load("24x256x384"), help="REQUESTSxINPUTxOUTPUT")
    parser.add_argument("--choices", type=int, default=1, help="texts of each request, sampled side by side")
    parser.add_argument("--pool", type=float, default=0.25, help="share of the demand")
    parser.add_argument("--host", type=float, default=1.5, help="host tier, as a share of the demand")
    parser.add_argument("--fits", type=int, default=0, metavar="N", help="engines of each kind, side by side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", type=lambda text: text.split(","), help="which, by name; default: all")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE", help="of the engine")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.fits:
        fits(args)
        return
    found = measure(args)
    report(found)
    if args.json is not None:
        args.json.write_text(json.dumps({way: [asdict(each) for each in of] for way, of in found.items()}, indent=1))


def measure(args: argparse.Namespace) -> dict[str, list[Figures]]:
    """The figures of each way, by round."""
    page = page_bytes(args.model)
    demand = args.load.requests * pages_of(args.load, args.choices) * page
    pool, host = int(args.pool * demand), int(args.host * demand)
    sizes = f"{format_bytes(demand)} of KV together; pool {format_bytes(pool)}, host {format_bytes(host)}"
    print(f"{args.load}, {args.choices} each: {sizes}")
    ways: dict[str, dict[str, Any]] = {
        "roomy": {"kv_cache_memory": 2 * demand},
        "no host": {"kv_cache_memory": pool},
        **{way: {"kv_cache_memory": pool, "host_cache_memory": host, "preemption": way}
           for way in ("recompute", "swap", "auto")},
    }  # fmt: skip
    ways = {way: settings for way, settings in ways.items() if args.ways is None or way in args.ways}
    given = dict(each.split("=", 1) for each in args.setting)
    found: dict[str, list[Figures]] = {way: [] for way in ways}
    for number in range(args.rounds):
        for way, settings in list(ways.items())[:: 1 if number % 2 else -1]:
            engine = build_engine(engine_config(model=args.model, **{"max_num_seqs": 64, **settings, **given}))
            found[way].append(run(engine, args.load, args.choices, number))
            engine.close()
    return found


def fits(args: argparse.Namespace) -> None:
    """Medians of each engine's processor and wall seconds over the rounds; the first round warms up."""
    demand = args.load.requests * pages_of(args.load, 1) * page_bytes(args.model)
    kinds: list[dict[str, Any]] = [{}, {"host_cache_memory": demand}]
    engines = [
        build_engine(engine_config(model=args.model, kv_cache_memory=2 * demand, **kind)) for kind in kinds * args.fits
    ]
    params = sampling(args.load, 1)
    found: list[list[tuple[float, float]]] = [[] for _ in engines]
    for number in range(args.rounds + 1):
        for at in list(range(len(engines)))[:: 1 if number % 2 else -1]:
            prompts = args.load.prompts(number * len(engines) + at, engines[at].ready.vocab_size)
            began, before = perf_counter(), process_time()
            drive(engines[at], [Submit(f"{number}-{each}", prompt, params) for each, prompt in enumerate(prompts)])
            found[at].append((process_time() - before, perf_counter() - began))
    for name, of in (("without", found[::2]), ("with", found[1::2])):
        processor, wall = ([median(run[at] for run in runs[1:]) for runs in of] for at in (0, 1))
        each = " ".join(f"{seconds:.3f}" for seconds in processor)
        print(f"{name:7}: processor seconds {mean(processor):.3f} ({each}), wall {mean(wall):.3f}")


def sampling(load: Load, choices: int) -> SamplingParams:
    """Greedy where there is one text of a request, drawn where there are several; as long as the load says."""
    return SamplingParams(
        n=choices, max_tokens=load.output_len, temperature=float(choices > 1), ignore_eos=True, seed=0
    )


def pages_of(load: Load, choices: int) -> int:
    """Pages of a request at its longest: whole pages of the prompt are shared."""
    shared = load.input_len // 16
    return shared + choices * (ceil_div(load.input_len + load.output_len, 16) - shared)


def page_bytes(model: Path) -> int:
    """Bytes of a page of every layer group."""
    engine = build_engine(engine_config(model=model))
    size = sum(pages.spec.page_bytes for pages in engine.heap.groups)
    engine.close()
    return size


def run(engine: Engine, load: Load, choices: int, number: int) -> Figures:
    """One round through a new engine; a short request goes before, to warm it up."""
    drive(engine, [Submit("warm", [1, 2, 3], SamplingParams(max_tokens=8, seed=0, ignore_eos=True))])
    params = sampling(load, choices)
    prompts = load.prompts(number, engine.ready.vocab_size)
    began, before = perf_counter(), process_time()
    texts, given_way = drive(engine, [Submit(f"r{at}", prompt, params) for at, prompt in enumerate(prompts)])
    seconds, processor = perf_counter() - began, process_time() - before
    counters, tiers, use = engine.scheduler.counters, engine.heap.tiers, engine.scheduler.tier_use
    computed = counters.prompt_tokens - counters.prefix_hits + counters.generation_tokens + counters.recomputed_tokens
    times = sorted(given_way.values())
    return Figures(
        tokens_a_second=load.requests * choices * load.output_len / seconds,
        processor_seconds=processor,
        recomputed=counters.recomputed_tokens / computed,
        preemptions=counters.preemptions,
        most=times[-1],
        p99=times[int(0.99 * (len(times) - 1))],
        swapped=use.swapped if use is not None else 0,
        promoted=tiers.counters.promoted if tiers is not None else 0,
        demoted=tiers.counters.demoted if tiers is not None else 0,
        runs=tiers.counters.copies if tiers is not None else 0,
        texts=str(hash(tuple(sorted((name, tuple(tokens)) for name, tokens in texts.items())))),
    )


def drive(engine: Engine, requests: list[Submit]) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Run requests to their end; their texts, and how often each gave way."""
    texts: dict[str, list[int]] = {}
    seen: dict[str, Request] = {}
    outputs = engine.step(requests)
    while True:
        for delta in outputs.news():
            texts.setdefault(delta.request_id, []).extend(delta.tokens)
        if not engine.has_work():
            return texts, {name: request.preemptions for name, request in seen.items()}
        seen |= {each.id: each for each in (*engine.scheduler.running, *engine.scheduler.waiting)}
        outputs = engine.step()


def report(found: dict[str, list[Figures]]) -> None:
    """Print a table; throughput beside that of the pool without a host tier, round by round."""
    usual = "no host" if "no host" in found else next(iter(found))
    base = found[usual]
    for way, figures in found.items():
        ratios = [mine.tokens_a_second / theirs.tokens_a_second for mine, theirs in zip(figures, base, strict=True)]
        less = [mine.processor_seconds / theirs.processor_seconds for mine, theirs in zip(figures, base, strict=True)]
        speeds = sorted(each.tokens_a_second for each in figures)
        print(
            f"{way:10}: {median(speeds):7.1f} tokens/s ({speeds[0]:.1f} to {speeds[-1]:.1f}), {median(ratios):.3f} of "
            f"{usual} ({' '.join(f'{ratio:.2f}' for ratio in ratios)}), processor seconds {median(less):.3f} of its; "
            f"recomputed {median(each.recomputed for each in figures):.1%}; preemptions "
            f"{median(each.preemptions for each in figures):g} (a request: p99 {max(each.p99 for each in figures)}, "
            f"most {max(each.most for each in figures)}), swapped {median(each.swapped for each in figures):g}; pages "
            f"down {median(each.demoted for each in figures):g}, up {median(each.promoted for each in figures):g}, in "
            f"{median(each.runs for each in figures):g} runs"
        )
    same = all(len({of[number].texts for of in found.values()}) == 1 for number in range(len(base)))
    print(f"texts are {'the same in all' if same else 'NOT the same'}")


if __name__ == "__main__":
    main()
