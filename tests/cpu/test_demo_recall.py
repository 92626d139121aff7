"""The bundled model really retrieves, so that it can be told what a way of keeping KV forgets: through the engine."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infergc.config import EngineConfig
from infergc.evaluation.decoding import Job, decode
from infergc.evaluation.plan import REFERENCE, Plan, RetrievalCell
from infergc.evaluation.retrieval import ask, sample_of
from infergc.evaluation.subject import Subject
from infergc.evaluation.summary import USABLE
from infergc.evaluation.tasks import TASKS, Haystack
from infergc.evaluation.windows import windows
from infergc.text.tokenizer import Tokenizer
from samples.lengths import at_length

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "models" / "demo"
SEEDS = range(1000, at_length(1004, 1008))  # no row of training is drawn from a number
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROWS = 24  # of held-out text, of 1,024 tokens


@pytest.fixture(scope="module")
def engine() -> Iterator[Subject]:
    with Subject(EngineConfig(model=DEMO, kv_cache_memory=64 << 20, threads=1), forced=False) as subject:
        yield subject


@pytest.mark.parametrize("task", ["passkey", "single-key", "copying"])
def test_it_finds_what_a_thousand_tokens_hide(engine: Subject, task: str) -> None:
    """60 answers of a task, or 120, several questions on one cache that was made before them."""
    scores = answers(engine, task, 1024, Haystack())
    assert len(scores) == len(DEPTHS) * len(SEEDS) * 3
    assert sum(scores) / len(scores) >= USABLE


def test_it_finds_a_key_between_sentences_of_books(
    engine: Subject, monkeypatch: pytest.MonkeyPatch, traces_folder: Path
) -> None:
    scores = answers(engine, "single-key", 1024, Haystack(held_out(monkeypatch, traces_folder)))
    assert sum(scores) / len(scores) >= USABLE


@pytest.mark.parametrize(("task", "length"), [("variable-tracking", 1024), *((task, 4096) for task in TASKS)])
def test_where_a_gpu_trained_it_longer_it_finds_more(engine: Subject, task: str, length: int) -> None:
    if "no GPU" in (DEMO / "README.md").read_text(encoding="utf-8"):
        pytest.skip("it was trained on a CPU: its card reports these, and there is no bar")
    scores = answers(engine, task, length, Haystack())
    assert sum(scores) / len(scores) >= 0.9


def answers(engine: Subject, task: str, length: int, haystack: Haystack) -> list[float]:
    """Scores of three questions on each of so many contexts."""
    tokenizer, scores = Tokenizer.load(DEMO), []
    for depth in DEPTHS:
        for seed in SEEDS:
            cell = RetrievalCell(task, length, depth, seed, 3)
            found = ask(engine, cell, sample_of(cell, tokenizer, haystack), tokenizer)
            assert min(found["shared_tokens"]) > 0.8 * length
            scores += found["scores"]
    return scores


@pytest.mark.parametrize("kind", ["held-out", "unlike"])
def test_text_before_a_token_helps_to_predict_it(
    monkeypatch: pytest.MonkeyPatch, traces_folder: Path, tmp_path: Path, kind: str
) -> None:
    """By the engine's paged decode: of the books, what was held out; and of a text that is unlike them."""
    file = tmp_path / "text.txt"
    file.write_text(held_out(monkeypatch, traces_folder) if kind == "held-out" else unlike(), encoding="utf-8")
    plan = Plan((), (), (), ROWS if kind == "held-out" else 2, 1, 1024, texts=(file,))
    jobs = [Job(at, ids, 1, tmp_path / f"{at}") for at, ids in enumerate(windows(plan, Tokenizer.load(DEMO)))]
    found: list[list[float]] = []
    with Subject(EngineConfig(model=DEMO, kv_cache_memory=64 << 20, threads=1), forced=True) as subject:
        decode(subject, REFERENCE, jobs, len(jobs), lambda _, told: found.append(told["nll"]))
    losses = np.array(found)  # in nats, of each token behind a window's first
    assert losses.shape == (plan.seeds, 1023)
    assert losses[:, 511:].mean() < losses[:, :127].mean()


def held_out(monkeypatch: pytest.MonkeyPatch, traces_folder: Path) -> str:
    """The ends of the books, which training did not see."""
    if not (traces_folder / "corpus").is_dir():
        pytest.skip("--traces DIR or INFERGC_TRACES names no directory with corpus/")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    books = importlib.import_module("demo_model.corpus").read_corpus(traces_folder / "corpus")
    return "\n\n".join(paragraph for book in books for paragraph in book.held_out)


def unlike() -> str:
    """The project's licence, which is in no book."""
    return (ROOT / "LICENSE").read_text(encoding="utf-8")
