"""What --deterministic costs: the same requests with and without it, interleaved.

Usage: python benchmarks/deterministic_cost.py MODEL_DIR [--rounds N]
"""

import argparse
import statistics
import time

from infergc import LLM, SamplingParams

LOADS = {"1 request of 64 in, 64 out": (1, 64, 64), "16 requests of 128 in, 64 out": (16, 128, 64)}


def tokens_per_second(llm: LLM, requests: int, input_len: int, output_len: int, first: int) -> float:
    """Output tokens a second for prompts that nothing else shares."""
    prompts = [
        {"prompt_token_ids": [3 + (first * 7919 + i * 131 + j * 17) % 1000 for j in range(input_len)]}
        for i in range(requests)
    ]
    started = time.perf_counter()
    llm.generate(prompts, SamplingParams(max_tokens=output_len, temperature=0.0, ignore_eos=True), use_tqdm=False)
    return requests * output_len / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    settings = {"kv_cache_memory": "128MiB", "enable_prefix_caching": False}
    with LLM(options.model, **settings) as plain, LLM(options.model, deterministic=True, **settings) as fixed:
        for name, load in LOADS.items():
            pairs = [
                (tokens_per_second(plain, *load, first=2 * r), tokens_per_second(fixed, *load, first=2 * r + 1))
                for r in range(options.rounds + 1)
            ][1:]  # the first round warms up
            ratios = sorted(a / b for a, b in pairs)
            print(
                f"{name}: {statistics.median(a for a, _ in pairs):.0f} tok/s, "
                f"deterministic {statistics.median(b for _, b in pairs):.0f} tok/s, "
                f"ratio median {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )


if __name__ == "__main__":
    main()
