"""What the control plane costs beside vLLM's scheduler and KV manager, in turns on one machine.

    python benchmarks/peers/control.py --peers FOLDER --vllm-python PYTHON [--rounds 5] [--running 64,256,1024]

FOLDER holds ``vllm_control_plane.py``, which drives vLLM's Scheduler with made-up tokens. Both sides run the same
loads, and both leave out what making tokens up takes. Ours also fills in metrics and tells clients; theirs does not
hash prompts within its steps, so the arrival of the requests is counted on both sides in ``overall`` and ``churn``.
A round is one process of each; a ratio is the median over the rounds of ours over theirs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from contender import SOURCE
from paired import in_pairs, ratios, spread

Figures = dict[str, Any]
KINDS = ("decode", "overall", "churn")  # decode steps of lockstep, all of lockstep, all of churn


def main() -> None:
    """Measure, print the figures, and write them if asked to."""
    args = _arguments()
    rounds = in_pairs(lambda _: _ours(args), {"vllm": lambda _: _theirs(args)}, args.rounds)["vllm"]
    figures = {
        running: {kind: _compared(rounds, running, kind) for kind in KINDS} for running in args.running.split(",")
    }
    if args.json is not None:
        args.json.write_text(json.dumps({"figures": figures, "rounds": rounds}, indent=2) + "\n")


def _compared(rounds: list[tuple[Figures, Figures]], running: str, kind: str) -> dict[str, list[float]]:
    """Print and return µs a token of both sides, round by round."""
    ours = [_our_cost(ours["by_running"][running], kind) for ours, _ in rounds]
    theirs = [_their_cost(theirs["by_running"][running], kind) for _, theirs in rounds]
    print(
        f"{running:>5} {kind:8} infergc {spread(ours)} µs a token, vllm {spread(theirs)}; ratio {ratios(ours, theirs)}"
    )
    return {"ours": ours, "theirs": theirs}


def _our_cost(entry: Figures, kind: str) -> float:
    part = entry["churn"] if kind == "churn" else entry["lockstep"]
    return float((part["decode"] if kind == "decode" else part)["us_per_token"])


def _their_cost(entry: Figures, kind: str) -> float:
    if kind == "decode":
        return float(entry["lockstep"]["decode"]["us_per_token"])
    return float(entry["churn" if kind == "churn" else "lockstep"]["us_per_output_token_with_add"])


def _ours(args: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        command = [args.python, "-m", "infergc.cli", "bench", "control", *_load(args), "--json", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(SOURCE)})
        figures: Figures = json.loads(path.read_text())
    return figures


def _theirs(args: argparse.Namespace) -> Figures:
    command = [args.vllm_python, str(args.peers / "vllm_control_plane.py"), *_load(args)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _load(args: argparse.Namespace) -> list[str]:
    lengths = ("--input-len", str(args.input_len), "--output-len", str(args.output_len))
    return ["--running", args.running, *lengths]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder that holds vllm_control_plane.py")
    parser.add_argument("--vllm-python", required=True, help="interpreter of vLLM's environment")
    parser.add_argument("--python", default=sys.executable, help="our interpreter, default this one")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--running", default="64,256,1024", help="default 64,256,1024")
    parser.add_argument("--input-len", type=int, default=512, help="default 512")
    parser.add_argument("--output-len", type=int, default=128, help="default 128")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
