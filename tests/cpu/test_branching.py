"""Beams against transformers, and choices against separate requests, on small random models."""

from itertools import product
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from cpu.families import make_family
from cpu.served import make_served
from cpu.test_engine_families import engine_for, prompts_of
from infergc import LLM, SamplingParams
from infergc.engine.loop import Engine
from infergc.engine.messages import choice_names
from infergc.sched.branches import branch_seed
from samples.engines import run, submit
from samples.lengths import at_length
from samples.servers import serving

TOKENS = 16
PROMPTS = prompts_of((1, 15, 33))
WIDTHS = (2, 3, 5)
PENALTIES = (0.0, 1.0, -1.0, 2.5)
STOPS = (False, True, "never")
ALL = [*product(WIDTHS, PENALTIES, STOPS)]
# Each penalty with each way to stop, the widths in turn: as in a Latin square.
FEW = [(WIDTHS[(at + at // 3) % 3], *each) for at, each in enumerate(product(PENALTIES, STOPS))]


class Pair:
    """A model here and in transformers."""

    def __init__(self, family: str, directory: Path, **settings: Any) -> None:
        make_family(family, directory)
        self.theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self.ours: Engine = engine_for(directory, **settings)

    def assert_same_beams(self, prompt: list[int], width: int, ends: tuple[int, ...], **asked: Any) -> int:
        """Returns how many texts reached an end."""
        penalty, early, least = (asked.get(*each) for each in _DEFAULTS)
        request = submit(
            "b", prompt, n=width, use_beam_search=True, length_penalty=penalty, early_stopping=early,
            min_tokens=least, max_tokens=TOKENS, ignore_eos=True, stop_token_ids=ends,
        )  # fmt: skip
        results = run(self.ours, [request], check=False)
        self.ours.heap.check()
        assert not results.errors
        with torch.inference_mode():
            found = self.theirs.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
                num_beams=width, num_return_sequences=width, max_new_tokens=TOKENS, min_new_tokens=least or None,
                length_penalty=penalty, early_stopping=early, eos_token_id=list(ends) or None, pad_token_id=0,
                return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
        theirs = [cut(row.tolist()[len(prompt) :], ends) for row in found.sequences]
        assert [results.tokens[name] for name in choice_names("b", width)] == theirs
        for name, score in zip(choice_names("b", width), found.sequences_scores.tolist(), strict=True):
            length = len(results.tokens[name])
            assert results.totals[name] / length**penalty == pytest.approx(score, abs=2e-3, rel=1e-4)
        return sum(results.finish[name] == "stop" for name in choice_names("b", width))


_DEFAULTS = (("length_penalty", 1.0), ("early_stopping", False), ("min_tokens", 0))


def cut(tokens: list[int], ends: tuple[int, ...]) -> list[int]:
    """Without the padding after an end."""
    at = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: at + 1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair("llama3", tmp_path_factory.mktemp("llama3"))


@pytest.fixture(scope="module")
def ends(pair: Pair) -> tuple[int, ...]:
    """Tokens that likely texts hold, so that hypotheses do end."""
    results = run(pair.ours, [submit("g", PROMPTS[1], max_tokens=TOKENS, temperature=0.0, ignore_eos=True)])
    tokens = results.tokens["g"]
    return (tokens[5], tokens[9], 7)


@pytest.mark.parametrize(("width", "penalty", "early"), at_length(FEW, ALL))
def test_beams_equal_transformers(pair: Pair, ends: tuple[int, ...], width: int, penalty: float, early: Any) -> None:
    ended = 0
    for prompt in PROMPTS:
        asked = {"length_penalty": penalty, "early_stopping": early}
        pair.assert_same_beams(prompt, width, (), **asked)
        ended += pair.assert_same_beams(prompt, width, ends, **asked)
        ended += pair.assert_same_beams(prompt, width, ends[:1], **asked)
    assert ended, "no text ended: that would prove little"


def test_beams_with_a_least_length_equal_transformers(pair: Pair, ends: tuple[int, ...]) -> None:
    for prompt in PROMPTS:
        pair.assert_same_beams(prompt, 4, ends, min_tokens=9)


def test_a_wide_search_equals_transformers(pair: Pair, ends: tuple[int, ...]) -> None:
    pair.assert_same_beams(PROMPTS[1], 16, ends[:1])


@pytest.mark.parametrize("family", ["qwen2_mixed", "mistral_window"])
def test_beams_equal_transformers_under_preemption_and_windows(family: str, tmp_path: Path) -> None:
    probe = engine_for(make_family(family, tmp_path / "probe"))
    bundle = sum(group.page_bytes for group in probe.heap.config.groups)
    probe.close()
    pair = Pair(family, tmp_path / "pair", kv_cache_memory=16 * bundle, max_num_batched_tokens=32, block_size=16)
    for prompt in prompts_of((17, 60)):
        pair.assert_same_beams(prompt, 4, ())
    pair.ours.close()


def test_a_small_pool_and_others_beside_do_not_change_the_beams(pair: Pair, tmp_path: Path) -> None:
    load = [submit(f"o{at}", [at] * 40, max_tokens=60, ignore_eos=True) for at in range(4)]
    load += [
        submit(f"b{at}", prompt, n=4, use_beam_search=True, max_tokens=TOKENS, ignore_eos=True)
        for at, prompt in enumerate(prompts_of((20, 40)))
    ]
    expected = run(pair.ours, list(load), check=False)
    probe = pair.ours.heap.config.groups
    directory = make_family("llama3", tmp_path)
    for depth, caching in product((1, 2), (True, False)):
        small = engine_for(
            directory, kv_cache_memory=18 * sum(group.page_bytes for group in probe), pipeline_depth=depth,
            enable_prefix_caching=caching, max_model_len=200,
        )  # fmt: skip
        found = run(small, list(load))
        assert not found.errors
        assert found.tokens == expected.tokens
        assert small.scheduler.counters.preemptions > 0
        small.close()


@pytest.mark.parametrize("family", ["llama3", "qwen2_mixed"])
def test_choices_equal_separate_requests(family: str, tmp_path: Path) -> None:
    engine = engine_for(make_family(family, tmp_path))
    prompts = prompts_of((1, 16, 17, 40, 64, 65))
    asked = {"max_tokens": TOKENS, "ignore_eos": True, "temperature": 0.9}
    together = run(engine, [submit(f"r{at}", one, n=3, seed=at, **asked) for at, one in enumerate(prompts)])
    singly = [
        submit(f"r{at}#{index}", one, seed=branch_seed(at, index), **asked)
        for at, one in enumerate(prompts)
        for index in range(3)
    ]
    assert run(engine, singly).tokens == together.tokens
    assert len({tuple(tokens) for tokens in together.tokens.values()}) == 18
    engine.close()


def test_the_offline_api(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"max_tokens": 12, "ignore_eos": True, "seed": 5}
    with LLM(make_served(tmp_path), dtype="float32", kv_cache_memory="16MiB", threads=1) as llm:
        (alone,) = llm.generate("hello", SamplingParams(**asked), use_tqdm=False)
        (several,) = llm.generate("hello", SamplingParams(**asked, n=3, logprobs=1), use_tqdm=False)
        (search,) = llm.generate(
            "hello", SamplingParams(**asked, n=2, use_beam_search=True, beam_width=4), use_tqdm=False
        )
        pieces = list(llm.stream("hello", SamplingParams(**asked, n=3)))
    assert [output.index for output in several.outputs] == [0, 1, 2]
    assert several.outputs[0].text == alone.outputs[0].text
    assert len({output.text for output in several.outputs}) == 3
    assert all(len(output.logprobs) == 12 for output in several.outputs)
    assert len(search.outputs) == 2
    assert search.finished
    assert search.outputs[0].cumulative_logprob > search.outputs[1].cumulative_logprob
    for index, output in enumerate(several.outputs):
        assert "".join(piece.text for piece in pieces if piece.index == index) == output.text


def test_a_real_server_says_what_the_offline_api_says(tmp_path: Path) -> None:
    directory = make_served(tmp_path)
    asked: dict[str, Any] = {"max_tokens": 12, "n": 3, "seed": 5}
    search: dict[str, Any] = {"use_beam_search": True, "beam_width": 4, "length_penalty": 0.5, "early_stopping": True}
    with LLM(directory, dtype="float32", kv_cache_memory="16MiB", threads=1) as llm:
        (drawn,) = llm.generate("hello", SamplingParams(**asked, ignore_eos=True), use_tqdm=False)
        (found,) = llm.generate("hello", SamplingParams(**asked, **search), use_tqdm=False)
    flags = ("--dtype", "float32", "--kv-cache-memory", "16MiB", "--threads", "1", "--served-model-name", "real")
    with (
        serving(directory, *flags) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        for extra, expected in (({"ignore_eos": True}, drawn), (search, found)):
            texts = [output.text for output in expected.outputs]
            answer = client.completions.create(model="real", prompt="hello", **asked, extra_body=extra)
            assert [choice.text for choice in answer.choices] == texts
            streamed = ["", "", ""]
            for chunk in client.completions.create(
                model="real", prompt="hello", **asked, extra_body=extra, stream=True
            ):
                for choice in chunk.choices:
                    streamed[choice.index] += choice.text
            assert streamed == texts
        server.wait_until_idle()
