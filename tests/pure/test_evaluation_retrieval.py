"""Recall on the engine's own prefix cache, of a model without weights that recalls by induction."""

import json
from pathlib import Path
from typing import Any

import pytest

from infergc.config import ConfigError, EngineConfig, engine_config
from infergc.evaluation import given
from infergc.evaluation.evaluate import evaluate
from infergc.evaluation.plan import Plan, PlanError, RetrievalCell
from infergc.evaluation.reference import LOSSY, full_precision, lossy_settings
from infergc.evaluation.retrieval import ask, sample_of
from infergc.evaluation.subject import Subject
from infergc.evaluation.tasks import Haystack
from infergc.text.tokenizer import Tokenizer
from samples import recalling, served_model

CONTEXT = 4096
LENGTH = 1500


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("model"), context=CONTEXT)


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no weights for the engine's own executor."""
    monkeypatch.setattr(given, "full_precision", lambda config: config.model_copy(update={"executor": recalling.NAME}))


def config_for(model: Path, executor: str = recalling.NAME, **settings: Any) -> EngineConfig:
    return engine_config(model=model, executor=executor, kv_cache_memory="64MiB", **settings)


def plan(**others: Any) -> Plan:
    return Plan(**{
        "tasks": ("passkey",), "lengths": (LENGTH,), "depths": (0.1, 0.9), "seeds": 3, "questions": 2,
        "text_tokens": 0, **others,
    })  # fmt: skip


def run(model: Path, out: Path, executor: str = recalling.NAME, **others: Any) -> dict[str, Any]:
    done: list[int] = []
    results = evaluate(plan(**others), config_for(model, executor), out, lambda *_: done.append)
    results["done"] = sum(done)
    return results


@pytest.mark.parametrize("task", ["passkey", "single-key", "copying"])
def test_questions_are_answered_on_the_pages_of_a_context_that_was_there_before(model: Path, task: str) -> None:
    tokenizer, cell = Tokenizer.load(model), RetrievalCell(task, LENGTH, 0.5, 0, 3)
    sample = sample_of(cell, tokenizer, Haystack())
    with Subject(config_for(model), forced=False) as subject:
        found = ask(subject, cell, sample, tokenizer)
        page, token = subject.kv["page_tokens"], subject.kv["bytes_per_token"]
    assert found["score"] == 1, found["answers"]
    assert len(found["scores"]) == len(found["answers"]) == 3
    assert found["context_tokens"] < LENGTH
    whole = found["context_tokens"] // page * page
    assert found["shared_tokens"] == [whole] * 3, "all but the last, broken page"
    assert found["context_tokens"] * token <= found["held_bytes"] <= (found["context_tokens"] + 2 * page) * token
    assert found["preemptions"] == 0


def test_what_is_forgotten_costs_recall_at_its_depth(model: Path, tmp_path: Path) -> None:
    results = run(model, tmp_path, recalling.FORGETFUL)
    (row,) = results["retrieval"]
    assert row["usable"]
    assert row["reference_score"]["mean"] == 1
    assert [one["score"]["mean"] for one in row["by_depth"]] == [0, 1]
    assert (row["score"]["mean"], row["difference"]["mean"]) == (0.5, -0.5)
    assert row["difference"]["interval"] == (-0.5, -0.5)
    assert row["held_bytes"] == row["reference_held_bytes"] > 0
    low, high = row["by_depth"][1]["score"]["interval"]
    assert 0.4 < low < high == 1, "three seeds of three prove no 100 %"
    assert results["kv"]["variant"] == results["kv"]["reference"]


def test_a_task_that_the_full_cache_fails_is_unusable_and_still_told(model: Path, tmp_path: Path) -> None:
    results = run(model, tmp_path, tasks=("variable-tracking", "passkey"))
    failed, passed = results["retrieval"]
    assert (failed["task"], failed["usable"], passed["usable"]) == ("variable-tracking", False, True)
    assert failed["reference_score"]["mean"] < 0.95
    assert failed["score"] == failed["reference_score"]
    assert json.loads((tmp_path / "results.json").read_text())["retrieval"][0]["usable"] is False


def test_what_is_recorded_is_not_measured_again(model: Path, tmp_path: Path) -> None:
    first = run(model, tmp_path)
    assert first["done"] == 2 * 3, "both roles are one engine"
    again = run(model, tmp_path)
    assert again["done"] == 0
    assert again["retrieval"] == first["retrieval"]
    assert run(model, tmp_path, depths=(0.1, 0.5, 0.9))["done"] == 3
    assert run(model, tmp_path, recalling.FORGETFUL)["done"] == 6, "the reference's are there"
    assert run(model, tmp_path, questions=1)["done"] == 6


def test_what_cannot_be_measured_is_refused_before_a_model_is_loaded(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"--lengths: passkey: 30 tokens are too few; with \d+ and more"):
        run(model, tmp_path, lengths=(1500, 30))
    with pytest.raises(PlanError, match="--lengths: 5000 tokens are over the 4096"):
        run(model, tmp_path, lengths=(1500, 5000))
    with pytest.raises(PlanError, match="--tasks: there is no 'x'"):
        run(model, tmp_path, tasks=("x",))
    with pytest.raises(PlanError, match="nothing is left"):
        run(model, tmp_path, tasks=())
    with pytest.raises(PlanError, match=r"--haystack: cannot read .*: No such file"):
        run(model, tmp_path, haystack=tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"\xe9t\xe9")
    with pytest.raises(PlanError, match=r"--haystack: .* is not UTF-8 text: byte 0"):
        run(model, tmp_path, haystack=tmp_path / "latin")
    with pytest.raises(PlanError, match="--no-enable-prefix-caching"):
        evaluate(plan(), config_for(model, enable_prefix_caching=False), tmp_path, lambda *_: lambda _: None)
    with pytest.raises(ConfigError, match="runs no model"):
        run(model, tmp_path, text_tokens=100)
    assert not (tmp_path / "results.json").exists()


def test_a_haystack_of_ones_own_hides_the_needle(model: Path, tmp_path: Path) -> None:
    (tmp_path / "hay.txt").write_text("It rained all day long in the old town. Nobody went out.")
    results = run(model, tmp_path / "out", haystack=tmp_path / "hay.txt")
    assert results["retrieval"][0]["score"]["mean"] == 1
    assert results["done"] == 6


def test_every_setting_of_kv_itself_is_known_as_lossy() -> None:
    """Whoever adds a --kv-… by which something may be lost has to say so, or to name it here."""
    harmless = {"kv_cache_memory"}
    assert {name for name in EngineConfig.model_fields if name.startswith("kv_")} - harmless <= set(LOSSY)


def test_the_reference_differs_in_lossy_settings_alone(model: Path) -> None:
    config = config_for(model, recalling.FORGETFUL, block_size=32)
    plain = full_precision(config)
    assert plain.executor == EngineConfig.model_fields["executor"].default
    assert plain.model_copy(update={"executor": config.executor}) == config
    assert lossy_settings(config) == {"executor": recalling.FORGETFUL}
    assert lossy_settings(plain) == {}
