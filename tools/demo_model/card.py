"""The model card: what the weights were made from, how, how well they predict, and what they are not for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo_model.batches import CURRICULUM, SHARES
from demo_model.corpus import HELD_OUT_SHARE, Book
from demo_model.measuring import EARLY, LATE, HeldOut, Recalled
from demo_model.tokenizer import CONTEXT
from demo_model.training import ROPE_THETA, Progress

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
    "circuit": (
        "Retrieval was not left to training alone: it began from random weights into which a rough induction circuit\n"
        "had been written (tools/demo_model/start.py). What that does untrained stands beside what came of it, below."
    ),
    "random": "Training began from random weights.",
}
UNKNOWN = "not recorded: state origin and licence here before sharing the weights"


@dataclass(frozen=True)
class Earlier:
    """What the card of the model says that a run went on from: how that began, and its sections of run and recall."""

    start: str
    sections: str

    @classmethod
    def read(cls, folder: Path) -> Earlier:
        """Read them from the card in a folder that this tool has written.

        Raises:
            CardError: there is no such card.
        """
        try:
            card = (folder / "README.md").read_text(encoding="utf-8")
            parts = {part.split("\n", 1)[0]: part for part in card.split("\n## ")[1:]}
            (start,) = [text for text in STARTS.values() if text in card]
            return cls(start, "\n".join(f"#### {parts[name].rstrip()}\n" for name in ("Training", "Recall")))
        except (OSError, ValueError, KeyError) as error:
            raise CardError(f"--from {folder}: no model of this tool lies there") from error


class CardError(ValueError):
    """A folder has no card of this tool."""


@dataclass(frozen=True)
class Run:
    """The facts of one training run; `last` holds the figures after its last step."""

    options: dict[str, object]
    last: Progress
    machine: str
    total_seconds: float
    peak_bytes: int
    corpus_tokens: int
    parameters: int
    shape: str
    earlier: Earlier | None = None

    @property
    def command(self) -> str:
        """The command that ran, with the folders left open."""
        given = {name: value for name, value in self.options.items() if value is not None}
        if "steps" in given:
            del given["minutes"]
        if self.earlier is not None:
            del given["start"]
            given["from"] = "EARLIER"
        options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())
        return f"python tools/train_demo_model.py --corpus DIR {options}"


@dataclass(frozen=True)
class Measured:
    """What the saved model is worth: held-out text by row and by position, and answers by task and length.

    `untrained` has answers of the weights that training began from; `positions` is None where no text is long enough.
    """

    held_out: list[HeldOut]
    positions: dict[range, float] | None
    recalled: list[Recalled]
    untrained: list[Recalled]


@dataclass(frozen=True)
class Sample:
    """A prompt and what the saved model went on with."""

    prompt: str
    text: str


def render(run: Run, books: list[Book], measured: Measured, samples: list[Sample]) -> str:
    """Write the card as Markdown, with the metadata block that model hubs read."""
    found = [_quality(measured), _recall(measured)]
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

A Llama of {run.parameters / 1e6:.1f} M parameters ({run.shape},
tied embeddings, RoPE base {ROPE_THETA:,.0f}, byte-level BPE with single digits, {CONTEXT:,} positions, bf16). It is
bundled so that the engine can be tried and tested with no download, and so that what a way of keeping KV forgets can be
measured: it finds what stands in its context. Else it writes in the manner of old novels and knows nothing.

{_start(run)}

Chat format: `<|bos|>`, then for each message `<|role|>content<|end|>`, with the roles `system`, `user` and
`assistant`; the answer follows `<|assistant|>` and ends with `<|end|>`.

The weights and tokenizer are under the project's licence, Apache-2.0.
"""


def _start(run: Run) -> str:
    if run.earlier is None:
        return STARTS[str(run.options["start"])]
    return f"{run.earlier.start}\nIt was trained in two runs, of which the second stands first."


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
    lengths = "; ".join(f"to {100 * until:.0f} % {', '.join(map(str, rows))}" for until, rows in CURRICULUM.items())
    return f"""\
## Training

| | |
|---|---|
| command | `{run.command}` |
| steps | {last.step:,} |
| row lengths | {lengths} |
| tokens | {last.tokens:,} of all kinds ({passes:.1f} times the {run.corpus_tokens:,} tokens of text) |
| wall time | {last.seconds / 60:.1f} minutes of training, {run.total_seconds / 60:.1f} with tokenizer and measuring |
| machine | {run.machine}; products in bf16, weights in fp32 |
| memory | {run.peak_bytes / 1e9:.0f} GB of the host's at most |
| optimizer | Muon for matrices, AdamW for embedding and norms; warm-up and cosine |

With `--steps` the same seed gives the same rows in the same order, and on one CPU with the same threads the same
weights; with `--minutes` the clock has a say in lengths and rates.
{_before(run)}"""


def _before(run: Run) -> str:
    if run.earlier is None:
        return ""
    return f"""
This run went on from a model, as the second half of a run would: with its lengths and rates.

### The run before

{run.earlier.sections}"""


def _quality(measured: Measured) -> str:
    rows = [f"| {m.row:,} | {m.tokens:,} | {m.perplexity:.1f} | {m.bits_per_byte:.3f} |" for m in measured.held_out]
    table = "\n".join(["| row length | tokens | perplexity | bits per byte |", "|---|---|---|---|", *rows])
    return f"""\
## Held-out text

{table}

Perplexity is per token, of the saved bf16 weights in fp32 arithmetic; each row begins afresh. {_by_position(measured)}
"""


def _by_position(measured: Measured) -> str:
    if measured.positions is None:
        return "No text is long enough\nto tell it by position."
    early, late = measured.positions[EARLY], measured.positions[LATE]
    return (
        f"Of the same\ntokens it is {early:.1f} with up to {EARLY.stop} others before them, "
        f"and {late:.1f} with {LATE.start} to {LATE.stop:,}."
    )


def _recall(measured: Measured) -> str:
    tasks = list(dict.fromkeys(each.task for each in measured.recalled))
    lengths = sorted({each.length for each in measured.recalled})
    cells = {(each.task, each.length): f"{each.right} of {each.asked}" for each in measured.recalled}
    before = {each.task: f"{each.right} of {each.asked}" for each in measured.untrained}
    (short,) = {each.length for each in measured.untrained}
    rows = [["task", *(f"{length:,} tokens" for length in lengths), f"{short:,}, before this run"]]
    rows += [["---"] * len(rows[0])]
    rows += [[task, *(cells[task, length] for length in lengths), before[task]] for task in tasks]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"""\
## Recall

{table}

Answers that are right in every token, one to a context, on seeds that were not trained on, at depths from 0 to 1, in
made-up noise. Words, names and sentences are those of training. `infergc eval` asks through the engine, by its own
rule; tests/cpu/test_demo_recall.py has the bars that are held.
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
