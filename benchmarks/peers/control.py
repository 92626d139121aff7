"""What the control plane costs beside vLLM's scheduler and KV manager, in turns on one machine.

    python benchmarks/peers/control.py --vllm-python PYTHON [--rounds 5] [--running 64,256,1024]

Both sides run the same requests with made-up tokens, and both leave out what making them up takes. Ours also fills
in metrics and tells clients; theirs does not hash prompts within its steps, so the arrival of the requests is
counted on both sides in ``overall`` and ``churn``. A round is one process of each; a ratio is the median over the
rounds of ours over theirs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contender import SOURCE
from flags import interpreter, json_file, positive, sizes
from paired import in_pairs, ratios, spread

from infergc.bench.control import MODEL, SCENARIOS, ControlLoad, Scenario
from infergc.bench.json_file import write_json
from infergc.config import ConfigError

Figures = dict[str, dict[str, float]]  # running sequences → kind → µs a token
MOST_SEQUENCES = 4096  # what our engine allows
KINDS = ("decode", "overall", "churn")  # decode steps of lockstep, all of lockstep, all of churn


def main() -> None:
    """Measure, print the figures, and write them if asked to."""
    args = _arguments()
    rounds = in_pairs(lambda _: _ours(args), {"vllm": lambda _: _theirs(args)}, args.rounds)["vllm"]
    counts = map(str, args.running)
    figures = {running: {kind: _compared(rounds, running, kind) for kind in KINDS} for running in counts}
    if args.json is not None:
        write_json(args.json, {"unit": "microseconds a token", "figures": figures})


def _compared(rounds: list[tuple[Figures, Figures]], running: str, kind: str) -> dict[str, list[float]]:
    """Print and return µs a token of both sides, round by round."""
    ours = [ours[running][kind] for ours, _ in rounds]
    theirs = [theirs[running][kind] for _, theirs in rounds]
    print(
        f"{running:>5} {kind:8} infergc {spread(ours)} µs a token, vllm {spread(theirs)}; ratio {ratios(ours, theirs)}"
    )
    return {"ours": ours, "theirs": theirs}


def _ours(args: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        running = ",".join(map(str, args.running))
        load = ["--running", running, "--input-len", str(args.input_len), "--output-len", str(args.output_len)]
        command = [args.python, "-m", "infergc.cli", "bench", "control", *load, "--json", str(path)]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=False)
        if done.returncode:
            sys.exit(f"--python: our side ended with exit code {done.returncode}")
        entries = json.loads(path.read_text())["by_running"]
    return {
        running: {
            "decode": entry["lockstep"]["decode"]["us_per_token"],
            "overall": entry["lockstep"]["us_per_token"],
            "churn": entry["churn"]["us_per_token"],
        }
        for running, entry in entries.items()
    }


def _theirs(args: argparse.Namespace) -> Figures:
    loads = _loads(args)
    orders = [_order(load, scenario) for load in loads for scenario in SCENARIOS]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [args.vllm_python, str(Path(__file__).with_name("run_vllm_control.py"))]
    pipes = {"input": "\n".join(orders), "stdout": subprocess.PIPE}
    done = subprocess.run(command, **pipes, text=True, env=environment, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or len(answers) < len(orders):
        sys.exit(f"--vllm-python: vLLM's side ended with exit code {done.returncode} after {len(answers)} answers")
    pairs = zip(loads, answers[::2], answers[1::2], strict=True)
    return {str(load.running): _costs(load.running, lockstep, churn) for load, lockstep, churn in pairs}


_CONFIG = {  # of MODEL, as its config.json would be
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": MODEL.layers,
    "hidden_size": MODEL.hidden,
    "intermediate_size": MODEL.ffn,
    "num_attention_heads": MODEL.heads,
    "num_key_value_heads": MODEL.kv_heads,
    "vocab_size": MODEL.vocab,
    "eos_token_id": MODEL.eos_ids[0],
    "max_position_embeddings": MODEL.max_len,
}


def _order(load: ControlLoad, scenario: Scenario) -> str:
    """A load in the words of ``run_vllm_control.py``."""
    requests = load.requests(scenario)
    order = {
        "model": _CONFIG,
        "running": load.running,
        "pages": load.pages,
        "block_size": load.block_size,
        "batched_tokens": max(load.batched_tokens, load.running),
        "longest": load.longest,
        "requests": [(request.prompt, request.params.max_tokens) for request in requests],
    }
    return json.dumps(order)


def _costs(running: int, lockstep: dict[str, Any], churn: dict[str, Any]) -> dict[str, float]:
    """µs a token; of decode steps those in which every sequence runs, but for the last, which ends them all."""
    decode = [step for step in lockstep["steps"] if step[1:] == [running] * 3][:-1]
    return {
        "decode": _cost(decode),
        "overall": _cost(lockstep["steps"], lockstep["arrival"]),
        "churn": _cost(churn["steps"], churn["arrival"]),
    }


def _cost(steps: Iterable[list[float]], arrival: float = 0.0) -> float:
    seconds, _, _, gained = map(sum, zip(*steps, strict=True))
    return (seconds + arrival) * 1e6 / gained


def _loads(args: argparse.Namespace) -> list[ControlLoad]:
    return [ControlLoad(running, args.input_len, args.output_len) for running in args.running]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm-python", type=interpreter, required=True, help="interpreter of vLLM's environment")
    parser.add_argument("--python", type=interpreter, default=sys.executable, help="our interpreter, default this one")
    parser.add_argument("--rounds", type=positive, default=5, help="default 5")
    parser.add_argument("--running", type=sizes(1, MOST_SEQUENCES), default="64,256,1024", help="default 64,256,1024")
    parser.add_argument("--input-len", type=positive, default=512, help="default 512")
    parser.add_argument("--output-len", type=positive, default=128, help="default 128")
    parser.add_argument("--json", type=json_file, help="file to write the figures to")
    args = parser.parse_args()
    try:
        for load in _loads(args):
            load.check()
    except ConfigError as error:
        parser.error(str(error))
    return args


if __name__ == "__main__":
    main()
