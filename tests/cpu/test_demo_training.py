"""The tool that makes the bundled model: its rows, its start, its files, and what it refuses."""

import importlib
import math
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain, groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from cpu.test_demo_model import FILES
from samples.lengths import at_length

pytestmark = pytest.mark.usefixtures("one_thread")

TOOL = Path(__file__).resolve().parents[2] / "tools" / "train_demo_model.py"
SMALL = ("--batch-tokens", "512", "--threads", "1", "--contexts", "1", "--vocabulary", "1024")


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - rows are no secret


def write_corpus(folder: Path) -> Path:
    folder.mkdir()
    lines = [f'"The whale number {i} swam past the ship," said Ahab.' for i in range(200)]
    (folder / "tale.txt").write_text("\n\n".join(lines), encoding="utf-8")
    return folder


def tool(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(TOOL), *SMALL, *map(str, arguments)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", env=offline
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder that the tool made, and what it said."""
    beside = tmp_path_factory.mktemp("made")
    out = beside / "made"
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        run = invoked(patch, "--corpus", write_corpus(beside / "texts"), "--out", out, "--steps", "2", "--seed", "7")
    torch.set_num_threads(threads)
    assert run.exit_code == 0, run.output
    return out, run.output


def test_the_tool_makes_a_folder_that_loads(made: tuple[Path, str]) -> None:
    out, said = made
    assert "held-out perplexity" in said
    assert {f.name for f in out.iterdir()} == FILES
    assert sorted(f.name for f in out.parent.iterdir()) == ["made", "texts"]  # no scratch folder stays
    model, tokens = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.dtype == torch.bfloat16
    assert model.config.vocab_size == len(tokens)
    card = (out / "README.md").read_text()
    assert "--steps 2" in card
    assert "--seed 7" in card


def test_a_run_goes_on_from_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch, made: tuple[Path, str], tmp_path: Path
) -> None:
    (first, _), texts, second = made, write_corpus(tmp_path / "texts"), tmp_path / "second"
    more = ("--corpus", texts, "--out", second, "--steps", "3", "--from", first, "--seed", "5")
    run = invoked(monkeypatch, *more)
    assert run.exit_code == 0, run.output
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (first, second))
    assert all(before[name].shape == after[name].shape for name in before)
    assert not torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    card = (second / "README.md").read_text()
    assert "--seed 5 --minutes" not in card
    assert "--from EARLIER" in card
    assert card.index("--steps 3") < card.index("### The run before") < card.index("--steps 2")
    assert card.count("rough induction circuit") == 1
    refused = refusal(monkeypatch, "--corpus", texts, "--out", tmp_path / "third", "--from", texts)
    assert refused == f"Error: --from {texts}: no model of this tool lies there\n"


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    run = tool("--corpus", write_corpus(tmp_path / "texts"), "--out", tmp_path / "made", "--minutes", "5")
    assert run.stdout is not None
    for line in run.stdout:
        if "step" in line:
            break
    else:
        pytest.fail("it ended before its first step")
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "Aborted" in said
    assert [f.name for f in tmp_path.iterdir()] == ["texts"]


def invoked(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> Result:
    """The tool, run in this process, and asked of shorter texts in the end: what is measured is another test's."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    module = importlib.import_module(TOOL.stem)
    monkeypatch.setattr(module, "CONTEXT", at_length(512, 4096))
    monkeypatch.setattr(module, "SHORT", at_length(256, 1024))
    return CliRunner().invoke(module.main, [*SMALL, *map(str, arguments)])


def refusal(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    """What the tool says as it refuses its arguments."""
    result = invoked(monkeypatch, *arguments, "--steps", "1")
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


@pytest.fixture(scope="module")
def parts() -> Iterator[Callable[[str], Any]]:
    """The tool's own modules, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOL.parent))
        yield lambda name: importlib.import_module(f"demo_model.{name}")


@pytest.fixture(scope="module")
def books(parts: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return parts("corpus").read_corpus(write_corpus(tmp_path_factory.mktemp("books") / "texts"))


@pytest.fixture(scope="module")
def small(parts: Callable[[str], Any], books: list[Any]) -> PreTrainedTokenizerFast:
    examples = parts("recall").examples(chance(0), 20)
    return parts("tokenizer").train_tokenizer(chain(books[0].train, examples), 1024)


def test_the_loss_is_that_of_transformers_where_all_counts(
    parts: Callable[[str], Any], small: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    model = parts("training").build_model(small)
    ids_BL = torch.randint(6, len(small), (2, 40))
    counted_BL = torch.ones_like(ids_BL, dtype=torch.bool)
    losses_N = parts("training").counted_losses(model, ids_BL, counted_BL)
    assert losses_N.mean().item() == pytest.approx(model(input_ids=ids_BL, labels=ids_BL).loss.item(), rel=1e-5)
    counted_BL[:, 10:] = False
    assert torch.equal(
        parts("training").counted_losses(model, ids_BL, counted_BL), losses_N.view(2, -1)[:, :9].flatten()
    )


def test_logits_are_made_in_few_shapes(
    parts: Callable[[str], Any], small: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,400 steps, each with its own number of answers, took 17 GB: what a product needs is kept for each shape."""
    training, made = parts("training"), set()
    model = training.build_model(small)
    head, rng = model.lm_head.forward, torch.Generator().manual_seed(0)
    monkeypatch.setattr(model.lm_head, "forward", lambda hidden: made.add(len(hidden)) or head(hidden))
    ids_BL = torch.randint(6, len(small), (4, 300), generator=rng)
    for share in (0.01, 0.2, 0.3, 0.5, 0.6, 0.9):
        counted_BL = torch.rand(4, 300, generator=rng) < share
        assert len(training.counted_losses(model, ids_BL, counted_BL)) == counted_BL[:, 1:].sum()
    assert made == {512, 1024, 1536}


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    corpus = write_corpus(tmp_path / "texts")
    assert "--device" in refusal(monkeypatch, "--corpus", corpus, "--out", tmp_path / "made", "--device", "cuda")


def test_one_seed_gives_one_order_and_one_set_of_weights(
    parts: Callable[[str], Any], books: list[Any], small: PreTrainedTokenizerFast
) -> None:
    batches, training, start = map(parts, ("batches", "training", "start"))

    def run(seed: int) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        torch.manual_seed(seed)
        drawn = batches.Batches(books, small, seed, 2048)
        rows = [drawn.draw(share / 5).ids for share in range(6)]
        model = training.build_model(small)
        start.write_induction(model)
        training.train(model, batches.Batches(books, small, seed, 256), training.Limit(1.0, steps=2), lambda _: None)
        return rows, model.state_dict()

    (rows, weights), (same_rows, same_weights), (other_rows, _) = run(1), run(1), run(2)
    assert all(map(torch.equal, rows, same_rows))
    assert all(torch.equal(weight, same_weights[name]) for name, weight in weights.items())
    assert max(length for lengths in batches.CURRICULUM.values() for length in lengths) == 4096
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


def counted_spans(row: Any) -> list[range]:
    """Neighbouring tokens that count."""
    found = [list(group) for counted, group in groupby(range(len(row)), row.counted.__getitem__) if counted]
    return [range(span[0], span[-1] + 1) for span in found]


def test_only_answers_count_in_a_row_of_recall(
    parts: Callable[[str], Any], books: list[Any], small: PreTrainedTokenizerFast
) -> None:
    """Each is the whole target of a question that was asked just before it, but the last, which may be cut."""
    recall, rng = parts("recall").Recall(books, small), chance(5)
    for _ in range(20):
        row = recall.row(1024, rng)
        for span in [span for span in counted_spans(row) if span.stop < 1024]:
            asked = small.decode(row.ids[: span.start]).rsplit("\n", 1)[1]
            answer = small.decode([row.ids[at] for at in span])
            assert asked.startswith("Answer: ")
            assert re.fullmatch(r" [\w, ]+\.", answer)
            said = small.decode(row.ids[: span.start])
            assert set(re.findall(r"\w+", answer)) <= set(re.findall(r"\w+", said.rsplit("Question:", 1)[0]))


def test_what_is_said_twice_counts_the_second_time(
    parts: Callable[[str], Any], books: list[Any], small: PreTrainedTokenizerFast
) -> None:
    texts = parts("rows").Texts(books, small)
    row = parts("repeats").Repeats(texts, small).row(1024, chance(7))
    spans = counted_spans(row)
    assert len(spans) > 3
    for span in spans:
        said = [row.ids[at] for at in range(span.start - 1, span.stop)]  # with the token that cannot be foretold
        assert any(row.ids[at : at + len(said)] == said for at in range(span.start - len(said)))
    assert min(token for token in row.ids[1:]) >= len(parts("tokenizer").SPECIAL_TOKENS)


class Foreteller:
    """A stand-in for a model that finds each token of its input likely, the more the later it stands."""

    def __init__(self, vocabulary: int, surety: Callable[[int], float], fails_at_last: bool = False) -> None:
        self._vocabulary = vocabulary
        self._surety = surety
        self._fails_at_last = fails_at_last

    def __call__(self, input_ids: torch.Tensor, logits_to_keep: int = 0) -> Any:
        ids = [*input_ids[0].tolist()[1:], 0]
        logits_LV = torch.zeros(len(ids), self._vocabulary)
        for position, token in enumerate(ids):
            logits_LV[position, token] = self._surety(position)
        if self._fails_at_last:
            logits_LV[-2] = -logits_LV[-2]
        return SimpleNamespace(logits=logits_LV[None, -logits_to_keep:])


@pytest.mark.parametrize(("fails_at_last", "right"), [(False, 3), (True, 0)])
def test_an_answer_is_right_when_all_of_it_is(
    parts: Callable[[str], Any], small: PreTrainedTokenizerFast, fails_at_last: bool, right: int
) -> None:
    model = Foreteller(len(small), lambda _: 1.0, fails_at_last)
    found = parts("measuring").recall(model, small, "passkey", 256, 3)
    assert (found.task, found.length, found.right, found.asked) == ("passkey", 256, right, 3)


def test_perplexity_by_position_is_of_the_same_tokens(
    parts: Callable[[str], Any], small: PreTrainedTokenizerFast
) -> None:
    measuring = parts("measuring")

    def losses(_: Any, ids: list[int]) -> torch.Tensor:
        """A token's loss is its own, and a tenth of it where much stands before."""
        return torch.tensor([(token % 7) * (0.1 if at >= 512 else 1.0) for at, token in enumerate(ids[1:])])

    long, short = book_of("held out ", 2000), book_of("too short", 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "token_losses", losses)
        found = measuring.by_position(None, small, [long, short])
        assert math.log(found[measuring.EARLY]) == pytest.approx(10 * math.log(found[measuring.LATE]))
        assert measuring.by_position(None, small, [short]) is None


def test_losses_are_those_of_the_tokens_that_follow(
    parts: Callable[[str], Any], small: PreTrainedTokenizerFast
) -> None:
    sure = Foreteller(len(small), lambda at: 0.5 * at)
    losses_L = parts("measuring").token_losses(sure, [0, 7, 9, 11, 3])
    expected = [math.log(1 + (len(small) - 1) * math.exp(-0.5 * at)) for at in range(3)]
    assert losses_L[:-1].tolist() == pytest.approx(expected, rel=1e-4)


def book_of(words: str, times: int) -> Any:
    return SimpleNamespace(held_out=[words * times])


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

    assert copied(written=True) > 0.5
    assert copied(written=False) < 0.05
