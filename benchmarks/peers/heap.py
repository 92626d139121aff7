"""Our heap's operations beside vLLM's, in turns: nanoseconds a token, and how many times cheaper ours are.

    python benchmarks/peers/heap.py --vllm-python VENV/bin/python [--pages N,N --tokens N,N --rounds N --json FILE]

Two layers of vLLM are measured, on one shuffled free list of which half is held. ``pool`` is its BlockPool alone,
which knows no sequence: get_new_blocks, free_blocks, get_cached_block with touch, and entering a block's ready-made
hash. ``manager`` is its KVCacheManager, which like our heap keeps each sequence's table: allocate_slots,
get_computed_blocks, free. Making requests and hashing prompts is charged to neither; our comparing of tokens is
charged to us. vLLM lives in an environment of its own, so its side runs as a child that answers round by round.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from flags import interpreter, json_file, positive, sizes

from infergc.bench.heap import LEAST_PAGES, MOST_PAGES, PAGE_TOKENS, HeapBench, most_tokens
from infergc.bench.json_file import write_json

Figures = dict[str, float]


class Vllm:
    """vLLM's side, seen from ours."""

    def __init__(self, python: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [python, str(Path(__file__).with_name("run_vllm_heap.py"))]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )

    def ask(self, order: dict[str, int]) -> dict[str, Figures]:
        """Send an order and wait for its answer."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            print(json.dumps(order), file=self.child.stdin, flush=True)
            reply = self.child.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            code = self.child.wait()
            self.errors.seek(0)
            raise SystemExit(f"{self.errors.read()}\n--vllm-python: vLLM's side ended with exit code {code}")
        return dict(json.loads(reply))

    def close(self) -> None:
        """End the child."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        self.child.wait()
        self.errors.close()


def compare(vllm: Vllm, pages: int, lengths: list[int], rounds: int) -> list[dict[str, Any]]:
    """One pool: rounds of ours and theirs in turns, medians and ranges of both."""
    vllm.ask({"pages": pages})
    heap = HeapBench(pages, seed=0)
    rows = []
    for tokens in lengths:
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(heap.measure(tokens))
            theirs.append(vllm.ask({"tokens": tokens}))
        ours = [{**each, "prompt": each["allocate"] + each["publish"]} for each in ours]
        for layer in ("pool", "manager"):
            for name in theirs[0][layer]:
                rows.append(
                    row(pages, tokens, layer, name, [each[name] for each in ours], [t[layer][name] for t in theirs])
                )
                show(rows[-1])
    return rows


def row(pages: int, tokens: int, layer: str, name: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Medians, ranges, and the median of the rounds' ratios."""
    return {
        "pages": pages, "tokens": tokens, "layer": layer, "operation": name,
        "ours": [median(ours), min(ours), max(ours)],
        "theirs": [median(theirs), min(theirs), max(theirs)],
        "cheaper": median(their / our for our, their in zip(ours, theirs, strict=True)),
    }  # fmt: skip


def show(row: dict[str, Any]) -> None:
    """One line."""
    cells = ["{:8.2f} ({:.2f}-{:.2f})".format(*row[side]) for side in ("ours", "theirs")]
    name = f"{row['layer']}.{row['operation']}"
    print(
        f"{row['pages']:>8} {row['tokens']:>6} {name:<20} {cells[0]:<28}{cells[1]:<28}{row['cheaper']:6.2f}", flush=True
    )


def main() -> None:
    """Read the flags, compare, report."""
    flags = arguments()
    vllm = Vllm(flags.vllm_python)
    print("   pages tokens operation            ours, ns a token            vLLM                        cheaper")
    rows = [each for pages in flags.pages for each in compare(vllm, pages, flags.tokens, flags.rounds)]
    vllm.close()
    if flags.json is not None:
        write_json(flags.json, {"unit": "nanoseconds a token", "rows": rows})


def arguments() -> argparse.Namespace:
    """The flags; pools and lengths within what ``infergc bench heap`` takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm-python", type=interpreter, required=True, help="interpreter of vLLM's environment")
    pools = sizes(LEAST_PAGES, MOST_PAGES)
    parser.add_argument("--pages", type=pools, default="10000,100000,1000000", help="default 10000,100000,1000000")
    lengths = sizes(PAGE_TOKENS, most_tokens(MOST_PAGES))
    parser.add_argument("--tokens", type=lengths, default="64,512,4096,16384", help="default 64,512,4096,16384")
    parser.add_argument("--rounds", type=positive, default=5, help="default 5")
    parser.add_argument("--json", type=json_file, help="file to write the figures to")
    flags = parser.parse_args()
    most = most_tokens(flags.pages[0])
    if flags.tokens[-1] > most:
        parser.error(f"argument --tokens: {flags.tokens[-1]} is over {most}, an eighth of --pages {flags.pages[0]}")
    return flags


if __name__ == "__main__":
    main()
