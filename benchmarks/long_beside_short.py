"""One long prompt beside fifty short ones: what either costs the other.

    python benchmarks/long_beside_short.py                    # simulated, on a device of the data sheets
    python benchmarks/long_beside_short.py --model DIR        # the engine on this machine's CPU, with that model

Short prompts come all at once with the long one, or at a steady rate while it is computed. Each case is run with and
without the long prompt, some rounds, in turns; before each, some short prompts teach the engine what steps take.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from infergc.config import engine_config
from infergc.engine.assembly import build_engine
from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.params import SamplingParams
from infergc.sim.catalog import geometry_named
from infergc.sim.cost import Roofline
from infergc.sim.devices import device_named
from infergc.sim.requests import TraceRequest
from infergc.sim.simulate import Setup, simulate

SHORTS, WARM = 50, 12


class Case(NamedTuple):
    """Short prompts of so many tokens, at so many a second; 0 for all at once."""

    tokens: int
    rate: float


class Coming(NamedTuple):
    """A request: when it comes, the tokens of its prompt and of its output."""

    at: float
    prompt: int
    output: int


class Times(NamedTuple):
    """Seconds to first tokens."""

    shorts: list[float]
    long: float | None


def comings(case: Case, long: int, outputs: int, begin: float, *, shorts: bool = True) -> list[Coming]:
    """A case's requests, in order; the long prompt first. ``long`` is 0 for none."""
    found = [Coming(begin, long, 4)] if long else []
    step = 1 / case.rate if case.rate else 0.0
    return found + [Coming(begin + at * step, case.tokens, outputs) for at in range(SHORTS if shorts else 0)]


def simulated(options: argparse.Namespace) -> Callable[[Case, int, bool], Times]:
    """Runs on a device of the data sheets."""
    model = geometry_named("llama-3.1-8b")
    cost = Roofline(model, device_named(options.device))
    begin, settings = 30.0, {"max_num_batched_tokens": options.max_num_batched_tokens or 2048}

    def run(case: Case, long: int, shorts: bool) -> Times:
        warm = [Coming(0.3 * at, case.tokens, 32) for at in range(WARM)]
        load = [TraceRequest(*each) for each in (*warm, *comings(case, long, 64, begin, shorts=shorts))]
        fates = simulate(Setup(model, cost, 200_000 * model.kv_bytes_per_token, "lru", settings=settings), load).fates
        waits = [((fate.first or 0.0) - fate.request.arrival, fate.request) for fate in fates]
        return Times(
            [wait for wait, each in waits if each.arrival >= begin and each.input_len == case.tokens],
            next((wait for wait, each in waits if long and each.input_len == long), None),
        )

    return run


def real(options: argparse.Namespace) -> Callable[[Case, int, bool], Times]:
    """Runs on this machine."""
    budget = options.max_num_batched_tokens or 512
    engine = build_engine(
        engine_config(
            model=options.model,
            kv_cache_memory="2GiB",
            threads=options.threads,
            max_num_batched_tokens=budget,
            max_num_seqs=64,
            enable_prefix_caching=False,
        )
    )
    draw, rounds = Random(0), iter(range(1 << 30))  # noqa: S311 - a workload

    def run(case: Case, long: int, shorts: bool) -> Times:
        number = next(rounds)
        drive(engine, draw, f"warm{number}", [Coming(0.0, case.tokens, 8)] * WARM)
        load = comings(case, long, 16, 0.0, shorts=shorts)
        waits = drive(engine, draw, f"run{number}", load)
        return Times(waits[1:] if long else waits, waits[0] if long else None)

    return run


def drive(engine: Engine, draw: Random, name: str, load: list[Coming]) -> list[float]:
    """Let requests come at their times; returns each one's seconds to its first token."""
    vocab, begin, left = engine.ready.vocab_size, time.perf_counter(), list(enumerate(load))
    first: dict[str, float] = {}
    while left or engine.has_work():
        now = time.perf_counter() - begin
        commands = []
        while left and left[0][1].at <= now:
            at, coming = left.pop(0)
            params = SamplingParams(max_tokens=coming.output, ignore_eos=True, temperature=0.0)
            prompt = [draw.randrange(vocab) for _ in range(coming.prompt)]
            commands.append(Submit(f"{name}-{at}", prompt, params))
        if not commands and not engine.has_work():
            time.sleep(max(0.0, left[0][1].at - now))
            continue
        outputs = engine.step(commands)
        now = time.perf_counter() - begin
        for told in (*outputs.ids, *(delta.request_id for delta in outputs.deltas)):
            first.setdefault(told, now)
    return [first[f"{name}-{at}"] - coming.at for at, coming in enumerate(load)]


def compare(run: Callable[[Case, int, bool], Times], case: Case, long: int, rounds: int) -> dict[str, Any]:
    """A case with and without the long prompt, and that alone."""
    without: list[list[float]] = []
    beside: list[list[float]] = []
    longs: list[float] = []
    alone: list[float] = []
    for _ in range(rounds):
        without.append(run(case, 0, True).shorts)
        both = run(case, long, True)
        beside.append(both.shorts)
        longs.append(both.long or 0.0)
        alone.append(run(case, long, False).long or 0.0)
    found: dict[str, Any] = {"tokens": case.tokens, "rate": case.rate, "rounds": rounds}
    for name, share in (("p50", 50), ("p99", 99)):
        was, now = (float(np.median([np.percentile(each, share) for each in waits])) for waits in (without, beside))
        found |= {f"{name}_without": was, f"{name}_beside": now, f"{name}_ratio": now / was}
    return found | {"long_alone": float(np.median(alone)), "long_beside": float(np.median(longs))}


def main() -> None:
    """Print a table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="directory of a model of 32k context; without it, a simulation")
    parser.add_argument("--device", default="a100-80g", help="of the simulation")
    parser.add_argument("--long", type=int, default=32_000, help="tokens of the long prompt")
    parser.add_argument("--short", default="128,512", help="tokens of short prompts, with commas")
    parser.add_argument("--rates", default="0,2", help="short prompts a second, with commas; 0 for all at once")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--max-num-batched-tokens", type=int)
    parser.add_argument("--json", action="store_true", help="a line for each case")
    options = parser.parse_args()
    run = simulated(options) if options.model is None else real(options)
    for tokens in map(int, options.short.split(",")):
        for rate in map(float, options.rates.split(",")):
            found = compare(run, Case(tokens, rate), options.long, options.rounds)
            sys.stdout.write(json.dumps(found) + "\n" if options.json else _line(found))
            sys.stdout.flush()


def _line(found: dict[str, Any]) -> str:
    return (
        "short {tokens:5} at {rate:3}/s: p50 {p50_without:.3f} → {p50_beside:.3f} s, p99 {p99_without:.3f} → "
        "{p99_beside:.3f} s ({p99_ratio:.2f}x); long {long_alone:.2f} → {long_beside:.2f} s\n"
    ).format(**found)


if __name__ == "__main__":
    main()
