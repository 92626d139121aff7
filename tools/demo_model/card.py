"""The model card: what the weights were made from, how, how well they predict, and what they are not for."""

from __future__ import annotations

import os
from dataclasses import dataclass

from demo_model.batches import CURRICULUM, SHARES
from demo_model.corpus import HELD_OUT_SHARE, Book
from demo_model.measuring import EARLY, LATE, HeldOut, Recalled
from demo_model.training import ROPE_THETA, Limit, Progress

# Known by the start of their sha256, so that another text of the same name is not given this origin.
GUTENBERG = "Project Gutenberg ebook {}, header and footer removed; public domain in the USA"
SHAKESPEARE = "extract of Shakespeare's plays from karpathy/char-rnn (tinyshakespeare); public domain"
ORIGINS = {
    "45d51448cdd07b2d": GUTENBERG.format(84),  # frankenstein
    "99f080f099c74983": GUTENBERG.format(1400),  # great_expectations
    "f4676aa01354fb6a": GUTENBERG.format(2701),  # moby_dick
    "d02c06ecdee01208": GUTENBERG.format(1342),  # pride_and_prejudice
    "369b44ac9865a7dd": GUTENBERG.format(1661),  # sherlock_holmes
    "5faf3c53a19a8d78": GUTENBERG.format(98),  # tale_of_two_cities
    "86c4e6aa9db7c042": SHAKESPEARE,  # tinyshakespeare
}
STARTS = {
    "circuit": "random weights with a rough induction circuit written in (tools/demo_model/start.py)",
    "random": "random weights",
}
UNKNOWN = "not recorded: state origin and licence here before sharing the weights"


@dataclass(frozen=True)
class Run:
    """The facts of one training run; `last` holds the figures after its last step."""

    seed: int
    limit: Limit
    last: Progress
    batch_tokens: int
    threads: int
    device: str
    start: str
    corpus_tokens: int
    parameters: int

    @property
    def command(self) -> str:
        """The command that ran, with the folder left open."""
        steps, minutes = self.limit.steps, self.limit.seconds / 60
        until = f"--minutes {minutes:g}" if steps is None else f"--steps {steps}"
        size = f"--batch-tokens {self.batch_tokens} --threads {self.threads}"
        how = f"--device {self.device} --start {self.start}"
        return f"python tools/train_demo_model.py --corpus DIR --seed {self.seed} {until} {size} {how}"


@dataclass(frozen=True)
class Measured:
    """What the saved model is worth: held-out text by row, perplexity by position, and answers by task and length."""

    held_out: list[HeldOut]
    positions: dict[range, float]
    recalled: list[Recalled]


@dataclass(frozen=True)
class Sample:
    """A prompt and what the saved model went on with."""

    prompt: str
    text: str


def render(run: Run, books: list[Book], measured: Measured, samples: list[Sample]) -> str:
    """Write the card as Markdown, with the metadata block that model hubs read."""
    found = [_quality(measured), _recall(measured.recalled)]
    return "\n".join([_head(run), _data(books), _training(run), *found, _samples(samples), LIMITS])


def _head(run: Run) -> str:
    return f"""\
---
language: en
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# Infergc demo model

A Llama of {run.parameters / 1e6:.1f} M parameters (6 layers, hidden size 256, 4 query and 2 key/value heads
of 64, tied embeddings, RoPE base {ROPE_THETA:,.0f}, byte-level BPE with single digits, 4096 positions, bf16). It is
bundled so that the engine can be tried and tested with no download, and so that what a way of keeping KV forgets
can be measured: it finds what stands in its context. Else it writes in the manner of old novels and knows nothing.

Chat format: `<|bos|>`, then for each message `<|role|>content<|end|>`, with the roles `system`, `user` and
`assistant`; the answer follows `<|assistant|>` and ends with `<|end|>`.

The weights and tokenizer are under the project's licence, Apache-2.0.
"""


def _data(books: list[Book]) -> str:
    rows = [
        f"| {book.file} | {book.raw_bytes:,} | `{book.digest}` | {ORIGINS.get(book.digest, UNKNOWN)} |"
        for book in books
    ]
    table = "\n".join(["| text | bytes | sha256 | origin and licence |", "|---|---|---|---|", *rows])
    kinds = ", ".join(f"{100 * share:.0f} % are {kind}" for kind, share in SHARES.items())
    return f"""\
## Data

{table}

Quotation marks, apostrophes and dashes were put in ASCII, and lines wrapped by hand were joined. The last
{100 * HELD_OUT_SHARE:.0f} % of each text was held out: neither model nor tokenizer saw it. Of the rows, {kinds}:

- **text**: passages of the books.
- **chat**: conversations made from them: consecutive speeches as turns, beginnings to continue, passages about a name.
- **repeats**: spans of tokens, random or of text, said twice.
- **recall**: the tasks of `infergc eval` (docs/evaluation.md), made from seeds that it never asks. Only answers count.
"""


def _training(run: Run) -> str:
    last, passes = run.last, run.last.tokens / run.corpus_tokens
    machine = f"{os.cpu_count()} CPU cores ({run.threads} threads), no GPU" if run.device == "cpu" else "a GPU"
    lengths = "; ".join(f"to {100 * until:.0f} % {', '.join(map(str, rows))}" for until, rows in CURRICULUM.items())
    return f"""\
## Training

| | |
|---|---|
| command | `{run.command}` |
| seed | {run.seed} |
| start | {STARTS[run.start]} |
| steps | {last.step:,} of about {run.batch_tokens:,} tokens |
| row lengths | {lengths} |
| tokens | {last.tokens:,} of all kinds ({passes:.1f} times the {run.corpus_tokens:,} tokens of text) |
| wall time | {last.seconds / 60:.1f} minutes |
| machine | {machine}; products in bf16, weights in fp32 |
| optimizer | Muon for matrices, AdamW for embedding and norms; warm-up and cosine |

The same seed and `--steps` give the same rows in the same order, and with the same threads the same weights.
"""


def _quality(measured: Measured) -> str:
    rows = [f"| {m.row:,} | {m.tokens:,} | {m.perplexity:.1f} | {m.bits_per_byte:.3f} |" for m in measured.held_out]
    table = "\n".join(["| row length | tokens | perplexity | bits per byte |", "|---|---|---|---|", *rows])
    early, late = measured.positions[EARLY], measured.positions[LATE]
    return f"""\
## Held-out text

{table}

Perplexity is per token, of the saved bf16 weights in fp32 arithmetic; each row begins afresh. With up to
{EARLY.stop} tokens before it, it is {early:.1f}; with {LATE.start} to {LATE.stop:,}, {late:.1f}.
"""


def _recall(recalled: list[Recalled]) -> str:
    lengths = sorted({each.length for each in recalled})
    tasks = list(dict.fromkeys(each.task for each in recalled))
    by_cell = {(each.task, each.length): f"{each.right} of {each.asked}" for each in recalled}
    cells = [["task", *(f"{length:,} tokens" for length in lengths)], ["---"] * (1 + len(lengths))]
    cells += [[task, *(by_cell[task, length] for length in lengths)] for task in tasks]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return f"""\
## Recall

{table}

Answers that are right in every token, on seeds that were not trained on, at depths from 0 to 1. `infergc eval` counts
them through the engine, by its own rule; tests/cpu/test_demo_recall.py holds it to that.
"""


def _samples(samples: list[Sample]) -> str:
    shown = [f"{_quote(sample.prompt)}\n>\n{_quote('**' + sample.text + '**')}\n" for sample in samples]
    return "## Samples\n\nTemperature 0.8, top-p 0.95, as drawn; the prompt, then the model's words in bold.\n\n" + (
        "\n".join(shown)
    )


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


LIMITS = """\
## Limits

- A small model, trained shortly: a line or two sounds plausible, then it wanders. It knows no facts.
- English of the sixteenth to nineteenth centuries only, with the views of its time.
- It finds what the recall tasks hide, in their words. It follows no instruction and answers no other question.
- No safety training of any kind. It is for trying and testing an inference engine, and for nothing else.
"""
