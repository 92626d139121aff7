"""Reads a folder of public-domain books as paragraphs, and sets the end of each book aside for measuring."""

from __future__ import annotations

import gzip
import hashlib
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_SHARE = 0.03
WRAPPED_LINE = 55  # prose wrapped by hand runs to 60-75 columns, verse and dialogue in lines to about 40
PLAIN_SIGNS = str.maketrans({"“": '"', "”": '"', "\u2018": "'", "\u2019": "'", "—": "--", "_": None, "\r": None})
HEADING = re.compile(r"(chapter|letter|volume) [\divxlc]+\b.{0,70}", re.IGNORECASE)
SMALL_WORDS = {"a", "an", "and", "in", "of", "or", "the", "to"}


class CorpusError(ValueError):
    """The corpus folder is missing, empty, or holds text too short to train on."""


@dataclass(frozen=True)
class Book:
    """One text, in paragraphs; `held_out` is its end and is never trained on.

    `digest` is the start of the sha256 of its `raw_bytes` bytes, as they are after decompression.
    """

    file: str
    title: str
    train: list[str]
    held_out: list[str]
    raw_bytes: int
    digest: str


def read_corpus(folder: Path) -> list[Book]:
    """Read every .txt and .txt.gz in `folder`, in order of name.

    Raises CorpusError where there is no such folder, no text in it, or a text that read_book refuses.
    """
    if not folder.is_dir():
        raise CorpusError(f"--corpus {folder} is not a directory; it must hold .txt or .txt.gz files")
    files = sorted(f for f in folder.iterdir() if f.name.endswith((".txt", ".txt.gz")))
    if not files:
        raise CorpusError(f"--corpus {folder} holds no .txt or .txt.gz file")
    return [read_book(file) for file in files]


def read_book(file: Path) -> Book:
    """Read one text file, put it in plain signs, and split it into a training part and a held-out end.

    Raises CorpusError where it is not UTF-8 text (or gzip of it), or has fewer than two paragraphs.
    """
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise CorpusError(f"{file}: not readable as UTF-8 text: {error}") from error
    train, held_out = split(paragraphs(text))
    if not train:
        raise CorpusError(f"{file}: a text needs two paragraphs or more, one to train on and one to measure on")
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return Book(file.name, title_of(file.name), train, held_out, len(raw), digest)


def paragraphs(text: str) -> list[str]:
    """Split at blank lines; a paragraph's lines are joined where the text is prose wrapped by hand."""
    blocks = [b for b in re.split(r"\n\s*\n", text.translate(PLAIN_SIGNS)) if b.strip()]
    inner_lines = [len(line) for b in blocks for line in b.split("\n")[:-1]]
    wrapped = bool(inner_lines) and statistics.median(inner_lines) >= WRAPPED_LINE
    return without_contents([_join(block, wrapped) for block in blocks])


def without_contents(blocks: list[str]) -> list[str]:
    """Drop tables of contents: headings that another heading follows at once."""
    heads = [bool(HEADING.fullmatch(block)) for block in blocks] + [False]
    return [block for i, block in enumerate(blocks) if not (heads[i] and heads[i + 1])]


def _join(block: str, wrapped: bool) -> str:
    """Rid the lines of stray space; join them where `wrapped`, but not indented ones (verse, lists)."""
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in block.strip("\n").split("\n")]
    indented = block.strip("\n").startswith("  ")
    return (" " if wrapped and not indented else "\n").join(lines).strip()


def split(blocks: list[str]) -> tuple[list[str], list[str]]:
    """Return (training, held-out); held out is the last HELD_OUT_SHARE of text, a paragraph at least."""
    wanted = HELD_OUT_SHARE * sum(map(len, blocks))
    first, held = len(blocks), 0
    while first > 0 and held < wanted:
        first -= 1
        held += len(blocks[first])
    return blocks[:first], blocks[first:]


def title_of(file_name: str) -> str:
    """Pride and Prejudice from pride_and_prejudice.txt.gz; a tiny extract bears the name of the whole."""
    words = file_name.partition(".")[0].removeprefix("tiny").split("_")
    small = [w if i and w in SMALL_WORDS else w.capitalize() for i, w in enumerate(words)]
    return " ".join(small)
