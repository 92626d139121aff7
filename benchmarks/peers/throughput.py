"""Tokens a second of Infer-GC and of each installed peer, in pairs, on the same model and prompts.

    python benchmarks/peers/throughput.py --model DIR [--pairs 5] [--loads 32x256x128,64x64x64,8x2048x128]
        [--openvino-python PYTHON --openvino-model DIR] [--vllm-python PYTHON --vllm-preload LIBRARIES]
        [--transformers-python PYTHON] [--json FILE]

Every engine is a process of its own, loaded once and warmed up with each load. Then ours and a peer run one after
the other, pair after pair; whoever is not running is stopped. Peers that are not given are skipped. See README.md
here for how to install them and for the flags that they run with.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from contender import Contender, ContenderError, Recipe, runner, started
from flags import interpreter, json_file, positive
from paired import in_pairs, ratios, spread

from infergc.bench.json_file import write_json
from infergc.bench.workload import Load, parse_load

LOADS = "32x256x128,64x64x64,8x2048x128"
WARM_UP = 0  # the round that warms up; pairs are numbered from 1
Round = dict[str, Any]


def main() -> None:
    """Measure, print a table for each load, and write the figures if asked to."""
    args = _arguments()
    try:
        _compare(args)
    except ContenderError as error:
        sys.exit(str(error))


def _compare(args: argparse.Namespace) -> None:
    peers, skipped = recipes(args)
    for name, reason in skipped.items():
        print(f"{name}: skipped, {reason}", flush=True)
    with ExitStack() as stack:
        ours = stack.enter_context(started(runner("infergc", args.python, _our_options(args))))
        theirs = {name: stack.enter_context(started(recipe)) for name, recipe in peers.items()}
        figures = _measure(ours, theirs, args)
    if args.json is not None:
        write_json(args.json, {**figures, "skipped": skipped})


def recipes(args: argparse.Namespace) -> tuple[dict[str, Recipe], dict[str, str]]:
    """How to start each peer that is given, and why each other is skipped."""
    threads = ["--threads", str(args.threads)]
    made = {}
    if args.openvino_python and args.openvino_model:
        options = ["--model", str(args.openvino_model), *threads, *args.openvino_options.split()]
        made["openvino"] = runner("openvino", args.openvino_python, options)
    if args.vllm_python:
        longest = str(max(load.input_len + load.output_len for load in args.loads))
        options = ["--model", str(args.model), "--longest", longest, *args.vllm_options.split()]
        made["vllm"] = runner("vllm", args.vllm_python, options, {"LD_PRELOAD": args.vllm_preload})
    if args.transformers_python:
        options = ["--model", str(args.model), *threads, *args.transformers_options.split()]
        made["transformers"] = runner("transformers", args.transformers_python, options)
    needed = {
        "openvino": "--openvino-python and --openvino-model are not given",
        "vllm": "--vllm-python is not given",
        "transformers": "--transformers-python is not given",
    }
    return made, {name: reason for name, reason in needed.items() if name not in made}


def _measure(ours: Contender, theirs: Mapping[str, Contender], args: argparse.Namespace) -> dict[str, Any]:
    everyone = {"infergc": ours, **theirs}
    figures: dict[str, Any] = {"engines": {name: one.description for name, one in everyone.items()}, "loads": {}}
    for load in args.loads:
        for contender in everyone.values():
            contender.round(load, WARM_UP)
        print(f"\n{load.requests} request{'s' * (load.requests > 1)}, {load.input_len} in, {load.output_len} out")
        figures["loads"][str(load)] = _one_load(load, ours, theirs, args.pairs)
    figures["peak_rss_bytes"] = {name: one.peak_bytes() for name, one in everyone.items()}
    for name, peak in figures["peak_rss_bytes"].items():
        print(f"{name}: peak memory {peak / 2**20:.0f} MiB over all loads")
    return figures


def _one_load(load: Load, ours: Contender, theirs: Mapping[str, Contender], pairs: int) -> dict[str, Any]:
    def measure(contender: Contender) -> Any:
        return lambda number: contender.round(load, number + 1)

    if not theirs:
        rounds = [ours.round(load, number + 1) for number in range(pairs)]
        print(f"  infergc {spread(_speeds(rounds))} tok/s")
        return {"infergc": rounds}
    measured = in_pairs(measure(ours), {name: measure(one) for name, one in theirs.items()}, pairs)
    return {name: _compared(name, found) for name, found in measured.items()}


def _compared(name: str, pairs: list[tuple[Round, Round]]) -> dict[str, Any]:
    """Print and return what is said of one peer."""
    ours, theirs = [our for our, _ in pairs], [their for _, their in pairs]
    ratio = ratios(_speeds(ours), _speeds(theirs))
    same = sum(our["digest"] == their["digest"] for our, their in pairs)
    print(
        f"  infergc {spread(_speeds(ours))} tok/s, {name} {spread(_speeds(theirs))}; ratio {ratio}; "
        f"same tokens in {same} of {len(pairs)} pairs",
        flush=True,
    )
    return {"ratio": ratio.median, "ratios": [ratio.low, ratio.high], "same": same, "ours": ours, "theirs": theirs}


def _speeds(rounds: list[Round]) -> list[float]:
    return [one["speed"] for one in rounds]


def _our_options(args: argparse.Namespace) -> list[str]:
    settings = [f"threads={args.threads}", *args.settings]
    return ["--model", str(args.model), *(word for setting in settings for word in ("--setting", setting))]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory of a Hugging Face model")
    parser.add_argument("--loads", type=_loads, default=LOADS, help=f"default {LOADS}")
    parser.add_argument("--pairs", type=positive, default=5, help="pairs for each load and peer, default 5")
    parser.add_argument("--threads", type=positive, default=len(os.sched_getaffinity(0)), help="default all cores")
    parser.add_argument("--python", type=interpreter, default=sys.executable, help="our interpreter, default this one")
    parser.add_argument("--setting", dest="settings", action="append", default=[], help="NAME=VALUE of our engine")
    parser.add_argument("--openvino-python", type=interpreter)
    parser.add_argument("--openvino-model", type=Path, help="the model as optimum-cli exported it")
    parser.add_argument("--openvino-options", default="", help="flags of run_openvino.py")
    parser.add_argument("--vllm-python", type=interpreter)
    parser.add_argument("--vllm-preload", default="", help="paths of tcmalloc and Intel's OpenMP, with colons between")
    parser.add_argument("--vllm-options", default="", help="flags of run_vllm.py")
    parser.add_argument("--transformers-python", type=interpreter)
    parser.add_argument("--transformers-options", default="", help="flags of run_transformers.py")
    parser.add_argument("--json", type=json_file, help="file to write the figures to")
    args = parser.parse_args()
    if (args.openvino_python is None) != (args.openvino_model is None):
        given, missing = ("python", "model") if args.openvino_python else ("model", "python")
        parser.error(f"--openvino-{given}: --openvino-{missing} is needed with it")
    return args


def _loads(text: str) -> list[Load]:
    try:
        return [parse_load(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    main()
