"""The tool that makes the bundled model: its rows, its start, its files, and what it refuses."""

import importlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

TOOL = Path(__file__).resolve().parents[2] / "tools" / "train_demo_model.py"
FILES = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} | {
    "tokenizer_config.json"
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other by spinning are many times slower where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - rows are no secret


def write_corpus(folder: Path) -> Path:
    folder.mkdir()
    lines = [f'"The whale number {i} swam past the ship," said Ahab.' for i in range(200)]
    (folder / "tale.txt").write_text("\n\n".join(lines), encoding="utf-8")
    return folder


def tool(*arguments: str | Path) -> subprocess.Popen[str]:
    small = ("--batch-tokens", "512", "--threads", "1", "--contexts", "1", "--vocabulary", "1024")
    command = [sys.executable, str(TOOL), *small, *map(str, arguments)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", env=offline
    )


def test_the_tool_makes_a_folder_that_loads(tmp_path: Path) -> None:
    out = tmp_path / "made"
    run = tool("--corpus", write_corpus(tmp_path / "texts"), "--out", out, "--steps", "3", "--seed", "7")
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert "held-out perplexity" in said
    assert {f.name for f in out.iterdir()} == FILES
    assert sorted(f.name for f in tmp_path.iterdir()) == ["made", "texts"]  # no scratch folder stays
    made, tokens = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert made.dtype == torch.bfloat16
    assert made.config.vocab_size == len(tokens)
    assert "--seed 7 --steps 3" in (out / "README.md").read_text()


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    run = tool("--corpus", write_corpus(tmp_path / "texts"), "--out", tmp_path / "made", "--minutes", "5")
    assert run.stdout is not None
    for line in run.stdout:
        if "step" in line:
            break
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=120)
    assert run.returncode != 0
    assert [f.name for f in tmp_path.iterdir()] == ["texts"]


def refusal(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    """What the tool says, in this process, as it refuses its arguments."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    result = CliRunner().invoke(importlib.import_module(TOOL.stem).main, [*map(str, arguments), "--steps", "1"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    return result.output


@pytest.mark.parametrize("content", [None, {}, {"tale.txt": "one paragraph"}])
def test_the_tool_refuses_a_bad_corpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: dict[str, str] | None
) -> None:
    folder = tmp_path / "texts"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
    assert str(folder) in refusal(monkeypatch, "--corpus", folder, "--out", tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_the_tool_refuses_to_replace_other_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    corpus = write_corpus(tmp_path / "texts")
    assert "diary.txt" in refusal(monkeypatch, "--corpus", corpus, "--out", tmp_path)
    assert (tmp_path / "diary.txt").read_text() == "mine"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """The tool's own modules, by name."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    return lambda name: importlib.import_module(f"demo_model.{name}")


@pytest.fixture
def books(parts: Callable[[str], Any], tmp_path: Path) -> list[Any]:
    return parts("corpus").read_corpus(write_corpus(tmp_path / "texts"))


@pytest.fixture
def small(parts: Callable[[str], Any], books: list[Any]) -> PreTrainedTokenizerFast:
    examples = parts("recall").examples(chance(0), 20)
    return parts("tokenizer").train_tokenizer(chain(books[0].train, examples), 1024)


def test_one_seed_gives_one_order_and_one_set_of_weights(
    parts: Callable[[str], Any], books: list[Any], small: PreTrainedTokenizerFast
) -> None:
    batches, training, start = map(parts, ("batches", "training", "start"))

    def run(seed: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        torch.manual_seed(seed)
        drawn = batches.Batches(books, small, seed, 2048)
        rows = [drawn.draw(share / 5).ids for share in range(6)]
        model = training.build_model(small)
        start.write_induction(model)
        training.train(model, batches.Batches(books, small, seed, 256), training.Limit(1.0, steps=2), lambda _: None)
        return rows, model.get_input_embeddings().weight

    (rows, weights), (same_rows, same_weights), (other_rows, _) = run(1), run(1), run(2)
    assert all(map(torch.equal, rows, same_rows))
    assert torch.equal(weights, same_weights)
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(rows, other_rows, strict=True))
    assert rows[0].shape[1] == 128
    assert rows[-1].shape[1] in batches.CURRICULUM[1.0]


@pytest.mark.parametrize("kind", ["Texts", "Chats", "Repeats", "Recall"])
@pytest.mark.parametrize("length", [128, 1024])
def test_rows_of_every_kind_are_whole(
    parts: Callable[[str], Any], books: list[Any], small: PreTrainedTokenizerFast, kind: str, length: int
) -> None:
    rows, rng = parts("rows"), chance(3)
    sources = {
        "Texts": lambda: rows.Texts(books, small),
        "Chats": lambda: rows.Chats(books, small),
        "Repeats": lambda: parts("repeats").Repeats(rows.Texts(books, small), small),
        "Recall": lambda: parts("recall").Recall(books, small),
    }
    source = sources[kind]()
    for _ in range(20):
        row = source.row(length, rng)
        assert len(row.ids) == len(row.counted) == length
        assert row.ids[0] == small.bos_token_id
        assert any(row.counted)


def test_only_answers_count_in_a_row_of_recall(
    parts: Callable[[str], Any], books: list[Any], small: PreTrainedTokenizerFast
) -> None:
    recall, rng = parts("recall").Recall(books, small), chance(5)
    for _ in range(20):
        row = recall.row(1024, rng)
        spans = [list(group) for counted, group in groupby(range(1024), row.counted.__getitem__) if counted]
        for span in spans:
            before = small.decode(row.ids[: span[0]])
            answer = small.decode([row.ids[at] for at in span]).strip(" .")
            assert before.rsplit("\n", 1)[1].startswith("Answer: ")
            assert span[-1] == 1023 or set(re.findall(r"\w+", answer)) <= set(re.findall(r"\w+", before))


def test_what_is_said_twice_counts_the_second_time(
    parts: Callable[[str], Any], books: list[Any], small: PreTrainedTokenizerFast
) -> None:
    texts = parts("rows").Texts(books, small)
    row = parts("repeats").Repeats(texts, small).row(1024, chance(7))
    counted = [at for at in range(1024) if row.counted[at]]
    for first, second in pairwise(counted):
        if second == first + 1:  # as in the span that was said before
            pair = row.ids[first : second + 1]
            assert any(row.ids[at : at + 2] == pair for at in range(first - 1))


def test_the_start_repeats_what_it_has_read_and_random_weights_do_not(
    parts: Callable[[str], Any], small: PreTrainedTokenizerFast
) -> None:
    """Before any training; at a distance that turns the fast pairs of channels often."""

    def copied(written: bool) -> float:
        torch.manual_seed(0)
        model = parts("training").build_model(small)
        if written:
            parts("start").write_induction(model)
        span_L = torch.randperm(len(small) - 6)[:400] + 6
        ids_1L = torch.cat([torch.tensor([small.bos_token_id]), span_L, span_L])[None]
        with torch.inference_mode():
            told_L = model(input_ids=ids_1L).logits[0].argmax(-1)
        return (told_L[403:-1] == span_L[3:]).float().mean().item()

    assert copied(written=True) > 0.8
    assert copied(written=False) < 0.05
