"""Forced decoding over pages: log probabilities as transformers has them, in any batch; and what is lost shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from cpu import degraded
from cpu.families import FAMILIES, make_family
from cpu.served import make_served
from infergc.config import engine_config
from infergc.engine.messages import Submit
from infergc.engine.scripts import Continuation
from infergc.evaluation.evaluate import evaluate
from infergc.evaluation.likelihoods import Likelihoods
from infergc.evaluation.plan import Plan
from infergc.evaluation.subject import Subject
from infergc.params import SamplingParams
from infergc.text.tokenizer import Tokenizer
from infergc.units import MIB

VOCAB = 131
LENGTHS = (2, 17, 60, 100)
TOLERANCE = 2e-4  # nats
LOST = 1e-3  # nats of KL, at least, by the degraded cache
SIZE = 150  # tokens of a window


def config_for(directory: Path, **settings: Any) -> Any:
    defaults = {"model": directory, "dtype": "float32", "kv_cache_memory": 8 * MIB, "max_num_batched_tokens": 64}
    return engine_config(**{**defaults, "threads": 1, **settings})


def subject_for(directory: Path, **settings: Any) -> Subject:
    return Subject(config_for(directory, **settings), forced=True)


def texts_of(lengths: tuple[int, ...], vocab: int = VOCAB) -> list[list[int]]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randint(vocab, (length,), generator=draw).tolist() for length in lengths]


def forced(
    subject: Subject, texts: list[list[int]], prefill: int, others: Sequence[Submit] = ()
) -> tuple[list[np.ndarray], list[Any]]:
    """Log probabilities [N, V] of each text after its first tokens, and the answers."""
    rows = [np.full((len(text) - prefill, subject.ready.vocab_size), np.nan, np.float32) for text in texts]
    requests = []
    for number, text in enumerate(texts, 1):
        take = rows[number - 1].__setitem__
        subject.script[number] = Continuation(np.array(text[prefill:], np.int32), take)
        params = SamplingParams(max_tokens=len(text) - prefill, temperature=0, ignore_eos=True, seed=number)
        requests.append(Submit(f"forced-{number}", text[:prefill], params))
    answers = subject.run([*requests, *others])
    subject.script.clear()
    return rows, answers


def full_forward(directory: Path, text: list[int], prefill: int) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor([text])).logits[0, prefill - 1 : -1].log_softmax(-1).numpy()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefill", [1, 40])
def test_log_probabilities_are_those_of_a_full_forward_pass(family: str, prefill: int, tmp_path: Path) -> None:
    directory = make_family(family, tmp_path)
    texts = texts_of(tuple(length for length in LENGTHS if length > prefill))
    with subject_for(directory) as subject:
        found, answers = forced(subject, texts, prefill)
        assert subject._engine.counters.steps >= max(map(len, texts)) - prefill, "a step for each token"
    for text, rows, answer in zip(texts, found, answers, strict=True):
        assert answer.tokens == text[prefill:], "the script was followed"
        expected = full_forward(directory, text, prefill)
        assert np.abs(rows - expected).max() <= TOLERANCE
        assert len(rows) == 1 or np.abs(np.diff(expected, axis=0)).max() > 1000 * TOLERANCE, "else it proves little"


def test_it_goes_on_after_a_preemption(tmp_path: Path) -> None:
    directory = make_family("llama3", tmp_path)
    texts = texts_of((100,) * 6)
    with subject_for(directory) as subject:
        pages = subject.kv["bytes_per_token"] * 16
    with subject_for(directory, kv_cache_memory=int(20 * pages)) as subject:
        found, answers = forced(subject, texts, 1)
    assert sum(answer.preemptions for answer in answers) > 0
    for text, rows in zip(texts, found, strict=True):
        assert np.abs(rows - full_forward(directory, text, 1)).max() <= TOLERANCE


def test_requests_beside_it_generate_as_ever(tmp_path: Path) -> None:
    directory = make_family("llama3", tmp_path)
    texts = texts_of((60, 30))
    free = [
        Submit("greedy", [5, 6, 7], SamplingParams(max_tokens=20, temperature=0, ignore_eos=True, seed=100)),
        Submit("drawn", [5, 6, 7], SamplingParams(max_tokens=20, ignore_eos=True, seed=101, logprobs=2)),
    ]
    with subject_for(directory, deterministic=True) as subject:
        alone = [answer.tokens for answer in subject.run(free)]
        found, answers = forced(subject, texts, 1, free)
        assert [answer.tokens for answer in answers[2:]] == alone
        assert all(np.isfinite(rows).all() for rows in found)


# ---- perplexity and agreement


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


def measured(model: Path, out: Path, plan: Plan, **settings: Any) -> dict[str, Any]:
    return evaluate(plan, config_for(model, **settings), out, lambda *_: lambda _: None)


def text_plan(file: Path, **others: Any) -> Plan:
    return Plan(**{
        "tasks": (), "lengths": (), "depths": (), "seeds": 2, "questions": 1, "text_tokens": SIZE, "texts": (file,),
        **others,
    })  # fmt: skip


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("The quick brown fox jumps over the lazy dog, and again it jumps over the river.\n" * 40)
    return file


def test_perplexity_by_position_is_that_of_a_full_forward_pass(model: Path, text: Path, tmp_path: Path) -> None:
    results = measured(model, tmp_path / "out", text_plan(text, seeds=1))
    tokenizer = Tokenizer.load(model)
    (begin,) = tokenizer.encode("")
    ids = tokenizer.encode(text.read_text(), add_special_tokens=False)
    starts = range(0, len(ids) - SIZE + 2, SIZE - 1)
    by_start = []
    for start in starts:
        window = [begin, *ids[start : start + SIZE - 1]]
        rows = full_forward(model, window, 1)
        by_start.append(-rows[np.arange(len(rows)), window[1:]])
    found = results["text"]
    assert (found["windows"], found["decoded"], found["made_up"]) == (1, SIZE - 1, False)
    expected = [np.exp(nll.mean()) for nll in by_start]
    at = int(np.argmin(np.abs(np.array(expected) - found["perplexity"]["mean"])))
    assert found["perplexity"]["mean"] == pytest.approx(expected[at], rel=TOLERANCE)
    assert [row["from"] for row in found["by_position"]] == [0, 128]
    first, second = (row["perplexity"]["mean"] for row in found["by_position"])
    assert first == pytest.approx(np.exp(by_start[at][:127].mean()), rel=TOLERANCE)
    assert second == pytest.approx(np.exp(by_start[at][127:].mean()), rel=TOLERANCE)


def test_equal_engines_agree_exactly(model: Path, text: Path, tmp_path: Path) -> None:
    results = measured(model, tmp_path / "out", text_plan(text), deterministic=True)
    assert results["lossy"] == {}
    for row in [results["text"], *results["text"]["by_position"]]:
        assert (row["kl"]["max"], row["agreement"]["mean"]) == (0, 1)
        assert row["perplexity"] == row["reference_perplexity"]
        assert row["nll_difference"] == {"mean": 0, "interval": (0, 0)}


@pytest.mark.parametrize("prefill", [1, 100])
def test_a_degraded_cache_is_noticed(model: Path, text: Path, tmp_path: Path, prefill: int) -> None:
    plan = text_plan(text, prefill=prefill)
    results = measured(model, tmp_path / "out", plan, executor=degraded.NAME, deterministic=True)
    plain = measured(model, tmp_path / "plain", plan, deterministic=True)
    found = results["text"]
    assert results["lossy"] == {"executor": degraded.NAME}
    assert found["kl"]["mean"] > LOST
    assert found["kl"]["p50"] <= found["kl"]["p99"] <= found["kl"]["max"]
    assert found["agreement"]["mean"] < 1
    assert found["reference_perplexity"] == plain["text"]["perplexity"]
    assert found["perplexity"] != found["reference_perplexity"]
    assert all(row["kl"]["mean"] > 0 for row in found["by_position"])


def test_what_a_reference_took_up_is_given_back_and_computed_again_when_it_is_needed(
    model: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    plain = measured(model, out, text_plan(text), deterministic=True)
    assert not (out / "reference").exists()
    found = measured(model, out, text_plan(text), executor=degraded.NAME, deterministic=True)
    assert not (out / "reference").exists()
    assert found["text"]["reference_perplexity"] == plain["text"]["perplexity"]
    assert found["text"]["kl"]["mean"] > LOST


def test_no_window_gives_way_where_few_fit(model: Path, text: Path, tmp_path: Path) -> None:
    plan = text_plan(text, seeds=4)
    ample = measured(model, tmp_path / "ample", plan, deterministic=True)
    small = measured(model, tmp_path / "small", plan, deterministic=True, kv_cache_memory="256KiB")
    assert small["kv"]["variant"]["capacity_tokens"] < 3 * SIZE
    assert (small["text"]["preemptions"], small["text"]["windows"]) == (0, 4)
    assert small["text"] == ample["text"]


def test_a_row_that_cannot_be_kept_ends_it_with_the_reason(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Likelihoods, "write", full)
    with pytest.raises(RuntimeError, match="No space left on device"):
        measured(model, tmp_path / "out", text_plan(text, seeds=1))
    assert not (tmp_path / "out" / "results.json").exists()
    monkeypatch.undo()
    assert measured(model, tmp_path / "out", text_plan(text, seeds=1))["text"]["windows"] == 1
