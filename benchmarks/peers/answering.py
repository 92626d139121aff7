"""The side of a contender's process: it answers one line of JSON for each round that it is asked for.

Imports nothing but the standard library and the workload, so that it runs in each peer's own environment.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infergc.bench.workload import Load, digest

Generate = Callable[[list[list[int]], int], list[list[int]]]  # prompts, tokens each → outputs


class Answers:
    """The real standard output; whatever else the process prints goes to standard error.

    Make it before the engine is imported: engines keep the standard output that they find.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self._file = os.dup(1)
        os.dup2(2, 1)

    def serve(self, description: dict[str, object], vocab_size: int, generate: Generate) -> None:
        """Say what runs, then answer rounds until standard input ends.

        A round is a line {requests, input_len, output_len, seed, number}; the answer {seconds, digest}.
        """
        self._say(description)
        for line in sys.stdin:
            order = json.loads(line)
            number = order.pop("number")
            self._say(_round(Load(**order), number, vocab_size, generate))

    def _say(self, news: dict[str, object]) -> None:
        os.write(self._file, (json.dumps(news) + "\n").encode())


def _round(load: Load, number: int, vocab_size: int, generate: Generate) -> dict[str, object]:
    prompts = load.prompts(number, vocab_size)
    started = time.perf_counter()
    outputs = generate(prompts, load.output_len)
    seconds = time.perf_counter() - started
    lengths = {len(output) for output in outputs}
    if len(outputs) != load.requests or lengths != {load.output_len}:
        return {"error": f"{len(outputs)} outputs of {sorted(lengths)} tokens came of a load {load}"}
    return {"seconds": seconds, "digest": digest(outputs)}


def vocabulary(model: str) -> int:
    """The vocabulary's size, from a model directory's config.json."""
    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    return int(config["vocab_size"])
