"""The constructed model says what its page promises: at any distance, in every dtype, by transformers too."""

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from infergc import LLM, SamplingParams
from samples.lengths import at_length

TOOLS = Path(__file__).parents[2] / "tools"
FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
SIZES, DTYPES = [(5, 259, 128), (1, 4096, 64), (10, 300, 256)], [torch.float32, torch.bfloat16, torch.float16]
BOS, END, FIRST = 0, 1, 3  # and the first byte's token
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def tools() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        yield


def run(*arguments: object) -> Result:
    """The tool, in this process."""
    main = importlib.import_module("make_induction_model").main
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def make(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[tuple[object, ...], Path] = {}

    def make(*arguments: object) -> Path:
        if arguments not in made:
            out = tmp_path_factory.mktemp("made") / "model"
            result = run(out, *arguments)
            assert result.exit_code == 0, result.output
            made[arguments] = out
        return made[arguments]

    return make


def answer(ids: list[int], match: int) -> int:
    """What induction says, spelled out: the follower that most earlier places of the last tokens have, or the end."""
    tail = ids[-match:]
    votes = Counter(ids[at] for at in range(match + 1, len(ids)) if ids[at - match : at] == tail)
    return votes.most_common(1)[0][0] if votes and BOS not in tail else END


def haystack(rng: np.random.Generator, length: int, vocab: int, match: int, depth: float) -> list[int]:
    """A text of random tokens whose last ``match`` are those that stand at this share of it."""
    ids = [BOS, *rng.integers(FIRST, vocab, length - match - 1).tolist()]
    at = 1 + round(depth * (len(ids) - 40))
    return [*ids, *ids[at : at + match]]


def load(model: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0].float()


def check_retrieval(llm: LLM, prompts: list[list[int]], match: int, tokens: int) -> None:
    greedy = SamplingParams(temperature=0.0, max_tokens=tokens, logprobs=1)
    results = llm.generate([{"prompt_token_ids": ids} for ids in prompts], greedy, use_tqdm=False)
    for ids, result in zip(prompts, results, strict=True):
        (output,) = result.outputs
        seen = list(ids)
        for token in output.token_ids:
            assert token == answer(seen, match)
            seen.append(token)
        assert len(seen) == len(ids) + tokens or seen[-1] == END
        assert min(step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)) > -1e-3


@pytest.mark.parametrize(
    ("dtype", "lengths"),
    [
        *((dtype, (64, 1024)) for dtype in ("float32", "bfloat16", "float16")),
        *((dtype, (4096,)) for dtype in at_length(("bfloat16",), ("float32", "bfloat16", "float16"))),
    ],
)
def test_it_retrieves_at_every_depth(make: Make, dtype: str, lengths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(lengths))
    prompts = [haystack(rng, length, 259, 5, depth) for length in lengths for depth in (0.0, 0.5, 1.0)]
    prompts += [haystack(rng, length, 259, 5, 0.5)[:-1] for length in lengths]  # what never stood there before
    with LLM(make(), dtype=dtype, kv_cache_memory="64MiB", threads=1) as llm:
        check_retrieval(llm, prompts, 5, tokens=16)


def test_it_retrieves_over_16k_tokens(make: Make) -> None:
    rng = np.random.default_rng(3)
    with LLM(make("--match", 2, "--head-dim", 64, "--vocab", 4096), kv_cache_memory="64MiB", threads=2) as llm:
        check_retrieval(llm, [haystack(rng, 16_360, 4096, 2, 0.01)], 2, tokens=12)


@pytest.mark.parametrize(
    ("sizes", "dtype"), at_length(list(zip(SIZES, DTYPES, strict=True)), list(product(SIZES, DTYPES)))
)
def test_transformers_says_the_same_at_every_position(
    make: Make, sizes: tuple[int, int, int], dtype: torch.dtype
) -> None:
    match, vocab, head_dim = sizes
    model = load(make("--match", match, "--vocab", vocab, "--head-dim", head_dim, "--seed", 7), dtype)
    ids = np.random.default_rng(0).integers(FIRST, vocab, 120).tolist()
    ids = [BOS, *ids, *ids[30:60], *[9] * 12, *ids[80:100], *ids[31:50]]  # copies, and a run of one token
    told = logits(model, ids)
    assert told.argmax(-1).tolist() == [answer(ids[: end + 1], match) for end in range(len(ids))]
    assert told.topk(2).values.diff().max() < -20  # nats between the first and the second


def test_text_is_looked_up_by_its_last_bytes(make: Make) -> None:
    pairs = {"otter": "4821", "heron": "77310", "vole": "9"}
    text = "".join(f"{name} = {value};\n" for name, value in pairs.items()) + "The grass is green. " * 20
    asked = [*(f"{text}\n{name} = " for name in pairs), f"{text}\nmole = "]
    with LLM(make("--match", 8, "--head-dim", 256), kv_cache_memory="64MiB", threads=1) as llm:
        params = SamplingParams(temperature=0.0, max_tokens=16, stop=[";"])
        results = llm.generate(asked, params, use_tqdm=False)
    assert [result.outputs[0].text for result in results] == [*pairs.values(), ""]


def test_followers_have_a_vote_each(make: Make) -> None:
    key, rest = [10, 11, 12, 13, 14], range(40, 90)
    ids = [BOS, *key, 20, *rest, *key, 21, *rest, *key, 21, *rest, *key]
    assert logits(load(make()), ids)[-1].argmax() == 21


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outliers_stand_in_the_keys_and_change_no_logit(make: Make, dtype: torch.dtype) -> None:
    plain = make()
    planted = make("--key-outliers", 4, "--outlier-scale", 64, "--key-offset", 128)
    ids = haystack(np.random.default_rng(5), 400, 259, 5, 0.3)
    before, after = (logits(load(path, dtype), ids) for path in (plain, planted))
    assert torch.equal(before.argmax(-1), after.argmax(-1))
    assert (before - after).abs().max() <= 0.02 * before.abs().max()
    for layer in range(4):
        name = f"model.layers.{layer}.self_attn.k_proj.weight"
        sizes, were = (load_file(path / "model.safetensors")[name].float().norm(dim=1) for path in (planted, plain))
        # four pairs and the offset; a position is written in the first channel of a pair, and rotation spreads it
        assert (sizes > 10 * were).sum() == (9 if layer == 3 else 5)
        assert sizes.max() > 20 * were.max()


def test_codes_are_far_apart(tools: None) -> None:
    codes = importlib.import_module("induction_model.codes")
    for tokens in (259, 512, 513, 1024, 2048, 4096):
        words = codes.token_codes(tokens, 1)
        products = words @ words.T
        np.fill_diagonal(products, -np.inf)
        assert words.shape == (tokens, codes.code_length(tokens))
        assert products.max() <= words.shape[1] - codes.LEAST_GAP


@pytest.mark.parametrize("sizes", [(1, 64), (2, 64), (1, 128), (5, 128), (1, 256), (10, 256)])
def test_the_margins_of_finding_a_token_hold_at_every_distance(tools: None, sizes: tuple[int, int]) -> None:
    shapes = importlib.import_module("induction_model.shape")
    shape = shapes.Shape(match=sizes[0], head_dim=sizes[1])
    away = np.concatenate((np.arange(-8, 0), np.arange(1, 16_384)))
    lost = (1 - np.cos(np.outer(away, shape.frequencies))) @ shape.amplitudes
    assert lost.min() >= 2 * shapes.MARGIN - 1e-6
    assert shape.theta ** -(shape.fast_pairs / shape.pairs) * 16_384 < 0.11  # no code turns further


def test_the_directory_is_small_complete_and_the_same_for_a_seed(make: Make, tmp_path: Path) -> None:
    model = make()
    assert {file.name for file in model.iterdir()} == FILES
    assert sum(file.stat().st_size for file in model.iterdir()) < 2e6
    assert json.loads((model / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    weights = (model / "model.safetensors").read_bytes()
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        assert run(out, "--seed", seed).exit_code == 0
        assert ((out / "model.safetensors").read_bytes() == weights) is same
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = "naïve — “quotes” 🐋\n\t"
    assert tokenizer.encode(text) == [BOS, *tokenizer.encode(text, add_special_tokens=False)]
    assert len(tokenizer.encode(text)) == 1 + len(text.encode())
    assert tokenizer.decode(tokenizer.encode(text)[1:]) == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--match", 6], "--match takes 1 to 5, not 6: a head of 128 channels (--head-dim)"),
        (["--match", 0], "--match takes 1 to 5, not 0"),
        (["--vocab", 258], "--vocab takes 259 to 4096, not 258"),
        (["--head-dim", 96], "--head-dim takes 64, 128, 256, not 96"),
        (["--context", 63], "--context takes 64 to 131072, not 63"),
        (["--key-outliers", 99], "--key-outliers takes 0 to 11 with these sizes, not 99"),
        (["--key-outliers", 1, "--outlier-scale", 0.5], "--outlier-scale takes 1 to 256, not 0.5"),
        (["--outlier-scale", 8], "give that, too"),
        (["--key-offset", 1000], "--key-offset takes 0 to 256, not 1000"),
    ],
)
def test_bad_arguments_are_refused_by_name(tools: None, tmp_path: Path, arguments: list[object], said: str) -> None:
    result = run(tmp_path / "made", *arguments)
    assert result.exit_code == 1
    assert said in result.output
    assert list(tmp_path.iterdir()) == []


def test_it_overwrites_nothing(tools: None, tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 1
    assert f"OUT: {tmp_path} exists" in result.output


def test_a_failure_leaves_nothing_behind(tools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving = importlib.import_module("induction_model.saving")
    monkeypatch.setattr(saving, "update_json", lambda *_: 1 / 0)  # once the weights are written
    assert run(tmp_path / "made").exit_code == 1
    assert list(tmp_path.iterdir()) == []
