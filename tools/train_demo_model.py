"""Trains the bundled demo model: books in, a Hugging Face model folder out.

    python tools/train_demo_model.py --corpus DIR [--out DIR] [--minutes 25 | --steps 600]

Runs on a CPU and needs no network. The parts are in tools/demo_model/.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from demo_model.batches import Batches
from demo_model.card import Run, Sample, render
from demo_model.corpus import Book, CorpusError, read_corpus
from demo_model.sampling import draw_samples
from demo_model.saving import OutputError, check_output, replacing, rounded_to_bf16, save_model
from demo_model.tokenizer import CONTEXT, train_tokenizer
from demo_model.training import HeldOut, Limit, Progress, build_model, measure, train

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "models" / "demo"
LOSS_LINES = 20  # over the whole run


@click.command(help="Train the bundled demo model on a folder of texts (.txt, .txt.gz), on the CPU.")
@click.option("--corpus", type=click.Path(path_type=Path), required=True, help="Folder of UTF-8 texts.")
@click.option("--out", type=click.Path(path_type=Path), default=DEFAULT_OUT, help="Folder to write [models/demo].")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0.01), default=25.0, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Train for so many steps instead of --minutes.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--batch-tokens", type=click.IntRange(min=1), default=2048, show_default=True)
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
    vocabulary: int,
) -> None:
    """Read, train, measure, write. An interrupt or an error leaves `out` as it was."""
    try:
        check_output(out)
        books = read_corpus(corpus)
    except (CorpusError, OutputError) as error:
        raise click.ClickException(str(error)) from error
    console = Console()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    tokenizer = train_tokenizer((paragraph for book in books for paragraph in book.train), vocabulary)
    batches = Batches(books, tokenizer, seed, batch_tokens)
    console.print(f"{len(books)} texts, {batches.corpus_tokens:,} tokens to train on, {len(tokenizer):,} in vocabulary")
    model, limit = build_model(tokenizer), Limit(minutes * 60, steps)
    last = watch_training(model, batches, limit, console)
    run = Run(seed, limit, last, batch_tokens, threads, batches.corpus_tokens, model.num_parameters())
    write(out=out, model=model, tokenizer=tokenizer, books=books, run=run, console=console)


def watch_training(model: LlamaForCausalLM, batches: Batches, limit: Limit, console: Console) -> Progress:
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
                rate = now.tokens / now.seconds
                console.print(f"step {now.step:5d}  {now.tokens:9,} tokens  loss {now.loss:.3f}  {rate:5.0f} tokens/s")

        return train(model, batches, limit, report)


def write(
    *,
    out: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    books: list[Book],
    run: Run,
    console: Console,
) -> None:
    """Measure the model as it will be saved, and puts weights, tokenizer and card in place of `out`."""
    model = rounded_to_bf16(model).eval()
    measured: list[HeldOut] = []
    with console.status("measuring on held-out text"):
        measured += [measure(model, tokenizer, books, row) for row in (512, CONTEXT)]
        samples: list[Sample] = draw_samples(model, tokenizer, run.seed)
    with replacing(out) as folder:
        save_model(model, tokenizer, folder)
        (folder / "README.md").write_text(render(run, books, measured, samples), encoding="utf-8")
    console.print(f"held-out perplexity {measured[0].perplexity:.1f}, {measured[0].bits_per_byte:.3f} bits per byte")
    console.print(f"written: {out}")


if __name__ == "__main__":
    main()
