"""A warm prefix and a flood of ten pools of one-off prompts, on the real engine with the bundled model."""

import random
from pathlib import Path

import openai
import pytest

from cpu.served import demo_model
from infergc import LLM, SamplingParams
from samples.servers import ROOT, Server, serving

KV = "4MiB"
FLAGS = ("--kv-cache-memory", KV, "--threads", "2", "--served-model-name", "demo")
ONE = SamplingParams(max_tokens=1, temperature=0)
LONG = 208  # tokens of a one-off prompt
VOCABULARY = 1000


@pytest.fixture(scope="module")
def model() -> Path:
    found = demo_model(ROOT)
    if found is None:
        pytest.skip("models/demo is not there")
    return found


def one_off(count: int, seed: int) -> list[list[int]]:
    """Prompts that share nothing."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return [[chance.randrange(VOCABULARY) for _ in range(LONG)] for _ in range(count)]


def tokens(*prompts: list[int]) -> list[dict[str, list[int]]]:
    return [{"prompt_token_ids": prompt} for prompt in prompts]


@pytest.mark.parametrize(("control", "least"), [(None, 0.9), ({"type": "ephemeral", "pin": True}, 0.95)])
def test_a_warm_prefix_outlives_a_flood(model: Path, control: dict[str, object] | None, least: float) -> None:
    with LLM(model, kv_cache_memory=KV, threads=2) as llm:
        pool = llm.ready.kv_capacity_tokens
        prefix = one_off(1, 1)[0][: pool // 11 // 16 * 16]
        for turn in range(1 if control else 4):
            (warm,) = llm.generate(tokens([*prefix, turn]), ONE, use_tqdm=False, cache_control=control)
        assert warm.num_pinned_tokens == (len(prefix) if control else None)
        flood = one_off(10 * pool // LONG + 1, 2)
        for at in range(0, len(flood), 8):
            llm.generate(tokens(*flood[at : at + 8]), ONE, use_tqdm=False)
        (again,) = llm.generate(tokens([*prefix, 99]), ONE, use_tqdm=False)
        assert again.num_cached_tokens >= least * len(prefix)
        assert llm.stats["counters"]["evicted_pages"] * 16 > 8 * pool, "the flood did not displace anything"


def complete(client: openai.OpenAI, prompt: list[int], **control: object) -> "openai.types.CompletionUsage":
    extra = {"cache_control": {"type": "ephemeral", **control}} if control else {}
    answer = client.completions.create(model="demo", prompt=prompt, max_tokens=1, temperature=0, extra_body=extra)
    return answer.usage


def test_a_pin_over_http_outlives_a_flood(model: Path) -> None:
    with serving(model, *FLAGS) as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        metrics = server.metrics()
        pool = int(next(pages for name, pages in metrics.items() if name.startswith("infergc_kv_pages_capacity"))) * 16
        prefix = one_off(1, 1)[0][: pool // 11 // 16 * 16]
        usage = complete(client, prefix, pin=True, ttl="1h")
        assert usage.prompt_tokens_details.pinned_tokens == len(prefix)
        flood = one_off(10 * pool // LONG + 1, 3)
        for at in range(0, len(flood), 8):
            client.completions.create(model="demo", prompt=flood[at : at + 8], max_tokens=1, temperature=0)
        again = complete(client, [*prefix, 1])
        assert again.prompt_tokens_details.cached_tokens >= 0.95 * len(prefix)
        assert _pinned(server) == len(prefix) // 16


def _pinned(server: Server) -> float:
    return server.metrics()["infergc_kv_pinned_pages"]
