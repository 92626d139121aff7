"""Beam search by forking, against the same search whose prefixes are computed again in every round.

Both run in one engine without a prefix cache, on the same rules (``sched/beams.py``). "Forked" is a request with
``use_beam_search``. "Recomputed" submits every round's hypotheses as fresh requests that report what may follow.
Both must find the same texts. Usage: python benchmarks/branching.py [MODEL] [--width W] [--prompt P] [--output O]
"""

import argparse
import random
from pathlib import Path
from statistics import median
from time import perf_counter

from infergc.client.local import LocalClient
from infergc.config import engine_config
from infergc.engine.branching import beam_rules
from infergc.params import SamplingParams
from infergc.sched.beams import Beams
from infergc.sched.plan import TokenLogprobs

DEMO = Path(__file__).parents[1] / "models" / "demo"


def forked(client: LocalClient, prompt: list[int], params: SamplingParams) -> list[list[int]]:
    request = client.builder.build(prompt, params)
    deltas = [delta for news in client.run([request]) for delta in news]
    return [delta.tokens for delta in sorted(deltas, key=lambda delta: delta.request_id)]


def recomputed(client: LocalClient, prompt: list[int], params: SamplingParams) -> list[list[int]]:
    beams = Beams(beam_rules(params, len(prompt), client.ready))
    texts: list[list[int]] = [[]]
    found: list[tuple[float, list[int]]] = []
    while not beams.over:
        result = beams.advance(what_may_follow(client, prompt, texts, beams.rules.reported))
        kept = found[: len(found) - result.lost]
        new = [(one.score, [*texts[one.parent], one.token]) for one in result.ended]
        found = sorted(kept + new, key=lambda pair: -pair[0])
        texts = [[*texts[parent], token] for parent, token in result.survivors]
    return [text for _, text in found[: params.n]]


def what_may_follow(
    client: LocalClient, prompt: list[int], texts: list[list[int]], reported: int
) -> list[TokenLogprobs]:
    params = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True, logprobs=reported)
    requests = [client.builder.build(prompt + text, params) for text in texts]
    reports = {delta.request_id: delta.logprobs[0] for news in client.run(requests) for delta in news}
    told = [reports[request.request_id] for request in requests]
    return [TokenLogprobs(one.sampled, one.rank, one.top_ids, one.top) for one in told]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=DEMO)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--output", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = engine_config(
        model=options.model, dtype="float32", enable_prefix_caching=False, kv_cache_memory="256MiB",
        max_num_batched_tokens=2048,
    )  # fmt: skip
    client = LocalClient(config)
    draw = random.Random(1)  # noqa: S311 - a prompt, no secret
    prompt = [draw.randrange(client.ready.vocab_size) for _ in range(options.prompt)]
    params = SamplingParams(
        n=options.width, use_beam_search=True, max_tokens=options.output, ignore_eos=True, seed=0
    )  # fmt: skip
    seconds: dict[str, list[float]] = {"forked": [], "recomputed": []}
    for _ in range(options.rounds):
        texts = []
        for name, search in (("forked", forked), ("recomputed", recomputed)):
            started = perf_counter()
            texts.append(search(client, prompt, params))
            seconds[name].append(perf_counter() - started)
        assert texts[0] == texts[1], "the two searches found different texts"
    client.close()
    fork, fresh = (median(seconds[name]) for name in ("forked", "recomputed"))
    load = f"{options.width} beams, prompt of {options.prompt}, output of {options.output} tokens"
    print(f"{load}; median of {options.rounds}")
    print(f"forked      {fork:8.3f} s")
    print(f"recomputed  {fresh:8.3f} s   {fresh / fork:.1f} x")


if __name__ == "__main__":
    main()
