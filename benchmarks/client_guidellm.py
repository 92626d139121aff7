"""guidellm against our server, completions and chats: every request is answered, with the tokens that were asked for.

    python benchmarks/client_guidellm.py ENV [MODEL]

It looks at ``/health``, asks for ``stream_options`` with usage in every chunk, and sends ``ignore_eos``.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from outside import SERVED, Client, client
from serving import Server, serving

REQUESTS, INPUT, OUTPUT = 24, 64, 32


def main() -> None:
    guidellm = client(__doc__, "guidellm")
    if guidellm is None:
        return
    with serving(guidellm.model, "--served-model-name", SERVED) as server, TemporaryDirectory() as into:
        for path in ("/v1/completions", "/v1/chat/completions"):
            show(path, measured(guidellm, server, path, Path(into)))


def measured(guidellm: Client, server: Server, path: str, into: Path) -> dict[str, dict[str, int]]:
    """The metrics of its report."""
    guidellm.run("-m", "guidellm", "run", "--disable-progress",
                 "--backend", f"kind=openai_http,target={server.url},model={SERVED},request_format={path}",
                 "--profile", "kind=concurrent,streams=4", "--constraint", f"kind=max_requests,count={REQUESTS}",
                 "--tokenizer", f"kind=hf_auto,model={guidellm.model}",
                 "--data", f"kind=synthetic_text,prompt_tokens={INPUT},output_tokens={OUTPUT}",
                 "--output", "kind=json,path=found.json", into=into)  # fmt: skip
    (run,) = json.loads((into / "found.json").read_text())["benchmarks"]
    metrics: dict[str, dict[str, int]] = run["metrics"]
    return metrics


def show(path: str, metrics: dict[str, dict[str, int]]) -> None:
    totals, tokens = metrics["request_totals"], metrics["output_token_count"]["successful"]
    assert (totals["successful"], totals["errored"]) == (REQUESTS, 0), totals
    assert tokens["min"] == tokens["max"] == OUTPUT, tokens
    print(f"{path}: {totals['successful']} requests of {OUTPUT} tokens, none failed, "
          f"TTFT p50 {metrics['time_to_first_token_ms']['successful']['median']:.0f} ms, "
          f"ITL p50 {metrics['inter_token_latency_ms']['successful']['median']:.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
