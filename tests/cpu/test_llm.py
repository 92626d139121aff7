"""The offline API on a real model: what is generated is what transformers would, with its log probabilities."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from cpu.served import make_served
from infergc import LLM, SamplingParams

PROMPTS = ["the quick brown fox", "hello", "def f(x):\n    return", "Übergrößenträger 😀 " * 6]
GREEDY = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True, logprobs=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def llm(model: Path) -> Iterator[LLM]:
    with LLM(model, dtype="float32", kv_cache_memory="16MiB", threads=1) as made:
        yield made


def test_greedy_tokens_and_logprobs_are_transformers(llm: LLM, model: Path) -> None:
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for result in llm.generate(PROMPTS, GREEDY, use_tqdm=False):
        (output,) = result.outputs
        ids = torch.tensor([result.prompt_token_ids + output.token_ids[:-1]])
        with torch.inference_mode():
            expected = reference(ids).logits[0, -len(output.token_ids) :].log_softmax(-1)
        assert output.token_ids == expected.argmax(-1).tolist()
        assert len(output.logprobs) == len(output.token_ids)
        for token, position, row in zip(output.token_ids, output.logprobs, expected, strict=True):
            top = row.topk(3).indices.tolist()
            assert set(position) == set(top)
            assert [position[other].rank for other in top] == [1, 2, 3]
            assert position[token].rank == 1
            assert position[token].decoded_token == llm.get_tokenizer().token_text(token)
            for other, report in position.items():
                assert report.logprob == pytest.approx(row[other].item(), abs=1e-3)
        total = expected.max(-1).values.sum().item()
        assert output.cumulative_logprob == pytest.approx(total, abs=1e-2)


def test_the_same_seed_gives_the_same_text_alone_and_batched(llm: LLM) -> None:
    params = SamplingParams(max_tokens=24, seed=5, temperature=0.9, top_p=0.9, ignore_eos=True)
    batched = [result.outputs[0].text for result in llm.generate(PROMPTS, params, use_tqdm=False)]
    alone = [llm.generate(prompt, params, use_tqdm=False)[0].outputs[0].text for prompt in PROMPTS]
    assert batched == alone
    assert "".join(piece.text for piece in llm.stream(PROMPTS[0], params)) == alone[0]


def test_a_bias_decides_and_an_end_token_ends(llm: LLM) -> None:
    end = llm.get_tokenizer().eos_ids[0]
    asked = [SamplingParams(temperature=0, max_tokens=8, logit_bias={40: 100.0}),
             SamplingParams(temperature=0, max_tokens=8, logit_bias={end: 100.0})]  # fmt: skip
    biased, ended = (result.outputs[0] for result in llm.generate(["hello"] * 2, asked, use_tqdm=False))
    assert biased.token_ids == [40] * 8
    assert (ended.token_ids, ended.text, ended.finish_reason, ended.stop_reason) == ([end], "", "stop", None)


def test_memory_is_told(llm: LLM) -> None:
    assert {"weights", "kv"} <= set(llm.ready.memory)
    assert llm.ready.memory["weights"] > 100_000
    assert llm.ready.kv_capacity_tokens > 0
    assert llm.ready.dtype == "float32"
