"""Tokens a second of whole answers over HTTP, beside the same engine called in a program: what the server costs.

    python benchmarks/http_offline.py MODEL [--requests 32] [--input-len 256] [--output-len 128] [--rounds 5]

Rounds of ``LLM.generate`` and of as many requests at once over HTTP are run in turns, on the same prompts of random
ids, new ones in each round, so that no cache helps. Both engines keep their model loaded; one at a time computes.
The time is that until the last answer is there, this process being the client of either.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

from server_cost import Connection, ask
from serving import Server, serving

from infergc import LLM, SamplingParams
from infergc.units import MIB

BAR = 0.95  # of the offline engine's tokens a second
Prompts = list[list[int]]


def offline(llm: LLM, prompts: Prompts, tokens: int) -> float:
    """Seconds for all prompts."""
    began = perf_counter()
    params = SamplingParams(max_tokens=tokens, ignore_eos=True, temperature=0.0)
    results = llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
    seconds = perf_counter() - began
    assert all(len(result.outputs[0].token_ids) == tokens for result in results)
    return seconds


async def online(server: Server, prompts: Prompts, tokens: int) -> float:
    """Seconds for all prompts."""
    began = perf_counter()
    await asyncio.gather(*(_one(server, ids, tokens) for ids in prompts))
    return perf_counter() - began


async def _one(server: Server, ids: list[int], tokens: int) -> None:
    body = {"prompt": ids, "max_tokens": tokens, "ignore_eos": True, "temperature": 0.0}
    content = json.dumps(body).encode()
    head = (f"POST /v1/completions HTTP/1.1\r\nhost: {server.host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n")  # fmt: skip
    connection: Connection = await asyncio.open_connection(server.host, server.port, limit=64 * MIB)
    await ask(connection, head.encode() + content)
    connection[1].close()


def compare(llm: LLM, server: Server, options: argparse.Namespace) -> dict[str, list[float]]:
    """Tokens a second of each round, and seconds of the server process for each token over HTTP."""
    draw, figures = Random(1), {"offline": list[float](), "http": list[float](), "server_us": list[float]()}  # noqa: S311
    tokens = options.requests * options.output_len
    for number in range(options.rounds + 1):
        prompts = [draw.choices(range(10, llm.ready.vocab_size), k=options.input_len) for _ in range(options.requests)]
        before = server.own_seconds()
        http = asyncio.run(online(server, prompts, options.output_len))
        taken = server.own_seconds() - before
        seconds = offline(llm, prompts, options.output_len)
        if number:  # the first warms caches
            figures["offline"].append(tokens / seconds)
            figures["http"].append(tokens / http)
            figures["server_us"].append(taken / tokens * 1e6)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--input-len", type=int, default=256)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with serving(options.model) as server, LLM(options.model) as llm:
        figures = compare(llm, server, options)
    for name, unit in (("offline", "tokens/s"), ("http", "tokens/s"), ("server_us", "µs of the server a token")):
        values = figures[name]
        print(f"{name}: {median(values):.1f} {unit} ({min(values):.1f} to {max(values):.1f})")
    pairs = [http / alone for http, alone in zip(figures["http"], figures["offline"], strict=True)]
    print(f"http over offline: {median(pairs):.3f} ({min(pairs):.3f} to {max(pairs):.3f}); bar {BAR}")
    print(f"load of the machine: {os.getloadavg()[0]:.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
