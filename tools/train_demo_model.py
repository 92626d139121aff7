"""Trains the bundled demo model: books and recall tasks in, a Hugging Face model folder out.

    python tools/train_demo_model.py --corpus DIR [--out DIR] [--minutes 60 | --steps 3000] [--device cuda]

Runs on a CPU, or a GPU if told, and needs no network. The parts are in tools/demo_model/.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from demo_model.batches import Batches
from demo_model.card import STARTS, CardError, Earlier, Measured, Run, render
from demo_model.corpus import Book, CorpusError, read_corpus
from demo_model.measuring import Recalled, by_position, measure, recall
from demo_model.recall import examples
from demo_model.sampling import draw_samples
from demo_model.saving import OutputError, check_output, replacing, rounded_to_bf16, save_model
from demo_model.start import write_induction
from demo_model.tokenizer import CONTEXT, train_tokenizer
from demo_model.training import Limit, Progress, build_model, train
from infergc.evaluation.tasks import TASKS

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "models" / "demo"
LOSS_LINES = 40  # over the whole run
EXAMPLES = 100  # of each recall task, for the tokenizer
SHORT = 1024  # tokens in which recall is asked for, and CONTEXT


@click.command(help="Train the bundled demo model on a folder of texts (.txt, .txt.gz) and on recall tasks.")
@click.option("--corpus", type=click.Path(path_type=Path), required=True, help="Folder of UTF-8 texts.")
@click.option("--out", type=click.Path(path_type=Path), default=DEFAULT_OUT, help="Folder to write [models/demo].")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0.01), default=60.0, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Train for so many steps instead of --minutes.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--batch-tokens", type=click.IntRange(min=1), default=4096, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Trains there.")
@click.option("--start", type=click.Choice(list(STARTS)), default="circuit", show_default=True, help="First weights.")
@click.option(
    "--from",
    "earlier",
    type=click.Path(path_type=Path),
    help="Go on from a model of this tool, as the second half of a run; --start and --vocabulary are that model's.",
)
@click.option(
    "--contexts", type=click.IntRange(min=1), default=40, show_default=True, help="Contexts asked per task and length."
)
@click.option("--vocabulary", type=click.IntRange(512, 65536), default=4096, show_default=True)
def main(
    *,
    corpus: Path,
    out: Path,
    seed: int,
    minutes: float,
    steps: int | None,
    threads: int,
    batch_tokens: int,
    device: str,
    start: str,
    earlier: Path | None,
    contexts: int,
    vocabulary: int,
) -> None:
    """Read, train, measure, write. An interrupt or an error leaves `out` as it was."""
    try:
        check_output(out)
        books = read_corpus(corpus)
        before = None if earlier is None else Earlier.read(earlier)
    except (CardError, CorpusError, OutputError) as error:
        raise click.ClickException(str(error)) from error
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("--device: torch finds no NVIDIA GPU here; cpu runs everywhere")
    began, console, options = time.monotonic(), Console(), click.get_current_context().params
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    tokenizer, model = load(earlier) if earlier else make(books, seed, vocabulary, start)
    batches = Batches(books, tokenizer, seed, batch_tokens)
    console.print(f"{len(books)} texts, {batches.corpus_tokens:,} tokens to train on, {len(tokenizer):,} in vocabulary")
    untrained = [recall(model, tokenizer, task, SHORT, contexts) for task in TASKS]
    limit = Limit(minutes * 60, steps, first=0.0 if before is None else 0.5)
    last = watch_training(model, batches, limit, device, console)
    model = rounded_to_bf16(model).eval()
    with console.status("measuring on held-out text and fresh seeds"):
        measured = measure_all(model, tokenizer, books, contexts, untrained)
        samples = draw_samples(model, tokenizer, seed)
    with replacing(out) as folder:
        run = replace(facts(options, last, time.monotonic() - began, batches.corpus_tokens, model), earlier=before)
        (folder / "README.md").write_text(render(run, books, measured, samples), encoding="utf-8")
        save_model(model, tokenizer, folder)
    text = measured.held_out[0]
    console.print(f"held-out perplexity {text.perplexity:.1f}, {text.bits_per_byte:.3f} bits per byte")
    console.print(f"written: {out}")


def make(books: list[Book], seed: int, vocabulary: int, start: str) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    """Make tokenizer and model, with the weights that training begins from."""
    tokenizer = train_tokenizer(tokenizer_texts(books, seed), vocabulary)
    model = build_model(tokenizer)
    if start == "circuit":
        write_induction(model)
    return tokenizer, model


def load(folder: Path) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    """Read the tokenizer and the weights of an earlier run."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.config.use_cache = False
    return PreTrainedTokenizerFast.from_pretrained(folder), model


def facts(
    options: dict[str, object], last: Progress, seconds: float, corpus_tokens: int, model: LlamaForCausalLM
) -> Run:
    """Gather what the card says of the run."""
    named = {name: value for name, value in options.items() if name not in {"corpus", "out", "earlier"}}
    on_cpu = f"{os.cpu_count()} CPU cores ({options['threads']} threads), no GPU"
    machine = on_cpu if options["device"] == "cpu" else torch.cuda.get_device_name()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    made = model.config
    heads = f"{made.num_attention_heads} query and {made.num_key_value_heads} key/value heads of {made.head_dim}"
    shape = f"{made.num_hidden_layers} layers, hidden size {made.hidden_size}, {heads}"
    return Run(named, last, machine, seconds, peak, corpus_tokens, model.num_parameters(), shape)


def tokenizer_texts(books: list[Book], seed: int) -> Iterator[str]:
    """Yield what the tokenizer learns from: the books' training text and examples of the recall tasks."""
    for book in books:
        yield from book.train
    yield from examples(random.Random(seed), EXAMPLES)  # noqa: S311 - no secret


def watch_training(model: LlamaForCausalLM, batches: Batches, limit: Limit, device: str, console: Console) -> Progress:
    """Train under a progress bar, with a line of figures LOSS_LINES times a run."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("training", total=1.0)
        printed = -1

        def report(now: Progress) -> None:
            nonlocal printed
            bar.update(task, completed=now.share)
            if int(now.share * LOSS_LINES) > printed:
                printed = int(now.share * LOSS_LINES)
                losses = "  ".join(f"{kind} {loss:.2f}" for kind, loss in now.losses.items())
                line = f"step {now.step:5d}  {now.tokens / now.seconds:5.0f} tokens/s  losses: {losses}"
                console.print(line, soft_wrap=True)

        return train(model, batches, limit, report, device)


def measure_all(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    books: list[Book],
    contexts: int,
    untrained: list[Recalled],
) -> Measured:
    """Measure what the card tells; `model` as it will be saved."""
    return Measured(
        [measure(model, tokenizer, books, row) for row in (512, CONTEXT)],
        by_position(model, tokenizer, books),
        [recall(model, tokenizer, task, length, contexts) for length in (SHORT, CONTEXT) for task in TASKS],
        untrained,
    )


if __name__ == "__main__":
    main()
