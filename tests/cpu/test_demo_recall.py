"""The bundled model really retrieves, so that it can be told what a way of keeping KV forgets: through the engine."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from infergc.cli.main import main
from infergc.config import EngineConfig
from infergc.evaluation.plan import RetrievalCell
from infergc.evaluation.retrieval import ask, sample_of
from infergc.evaluation.subject import Subject
from infergc.evaluation.tasks import Haystack
from infergc.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "models" / "demo"
BAR = 0.95
SEEDS = range(1000, 1008)  # no row of training is drawn from a number
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROWS = 24  # of held-out text, of 1,024 tokens


@pytest.fixture(scope="module")
def engine() -> Iterator[Subject]:
    with Subject(EngineConfig(model=DEMO, kv_cache_memory=64 << 20, threads=1), forced=False) as subject:
        yield subject


@pytest.mark.parametrize("task", ["passkey", "single-key", "copying"])
def test_it_finds_what_a_thousand_tokens_hide(engine: Subject, task: str) -> None:
    """120 answers of a task, several questions on one cache that was made before them."""
    tokenizer = Tokenizer.load(DEMO)
    cells = [RetrievalCell(task, 1024, depth, seed, 3) for depth in DEPTHS for seed in SEEDS]
    scores = [score for cell in cells for score in answered(engine, cell, tokenizer)]
    assert len(scores) == 120
    assert sum(scores) / len(scores) >= BAR


def answered(engine: Subject, cell: RetrievalCell, tokenizer: Tokenizer) -> list[float]:
    found = ask(engine, cell, sample_of(cell, tokenizer, Haystack()), tokenizer)
    assert min(found["shared_tokens"]) > 900
    scores: list[float] = found["scores"]
    return scores


@pytest.mark.parametrize("kind", ["held-out", "unlike"])
def test_text_before_a_token_helps_to_predict_it(
    monkeypatch: pytest.MonkeyPatch, traces_folder: Path, tmp_path: Path, kind: str
) -> None:
    """By the engine's paged decode: of the books, what was held out; and of a text that is unlike them."""
    file = tmp_path / "text.txt"
    file.write_text(held_out(monkeypatch, traces_folder) if kind == "held-out" else unlike(), encoding="utf-8")
    seeds = ROWS if kind == "held-out" else ROWS // 4
    asked = ("--tasks", "none", "--text", file, "--text-tokens", 1024, "--seeds", seeds, "--threads", 1)
    command = ["eval", "--model", DEMO, "--out", tmp_path / "out", *asked]
    result = CliRunner().invoke(main, [*map(str, command)])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "results.json").read_text())["text"]["by_position"]
    perplexity = {(part["from"], part["to"]): part["reference_perplexity"]["mean"] for part in found}
    assert perplexity[512, 1024] < perplexity[1, 128]


def held_out(monkeypatch: pytest.MonkeyPatch, traces_folder: Path) -> str:
    """The ends of the books, which training did not see."""
    if not (traces_folder / "corpus").is_dir():
        pytest.skip("--traces DIR or INFERGC_TRACES names no directory with corpus/")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    books = importlib.import_module("demo_model.corpus").read_corpus(traces_folder / "corpus")
    return "\n\n".join(paragraph for book in books for paragraph in book.held_out)


def unlike() -> str:
    """The pages of this project."""
    return "\n\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))
