"""Windows of text: pieces of files, or of text that is made up, each as token ids."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infergc.evaluation.plan import Plan, PlanError
from infergc.evaluation.tasks import Haystack
from infergc.text.tokenizer import Tokenizer

Ids = NDArray[np.int32]


def read_text(option: str, file: Path) -> str:
    """A file's text.

    Raises:
        PlanError: it cannot be read, or holds none; the message names the option.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{option}: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PlanError(f"{option}: {file} is not UTF-8 text: byte {error.start}") from None
    if not text.strip():
        raise PlanError(f"{option}: {file} holds no text")
    return text


def windows(plan: Plan, tokenizer: Tokenizer) -> list[Ids]:
    """A window for each seed, or fewer where the files do not hold so many that do not overlap.

    Each begins as the tokenizer begins a text. Files shorter than a window are taken whole.

    Raises:
        PlanError: a file cannot be read, or none holds more than ``prefill`` tokens.
    """
    if not plan.text_tokens:
        return []
    begin = tokenizer.encode("")
    size = plan.text_tokens - len(begin)
    if not plan.texts:
        return [_ids(begin, _made_up(tokenizer, seed, size)) for seed in range(plan.seeds)]
    texts = [tokenizer.encode(read_text("--text", file), add_special_tokens=False) for file in plan.texts]
    cut = [text[at : at + size] for text in texts for at in range(0, max(1, len(text) - size + 1), max(1, size))]
    found = [_ids(begin, piece) for piece in cut if len(begin) + len(piece) > plan.prefill]
    if not found:
        raise PlanError(f"--text: no file holds more tokens than --prefill, {plan.prefill}")
    random.Random("windows").shuffle(found)  # noqa: S311 - repeatable, not secret
    return found[: plan.seeds]


def _ids(begin: Sequence[int], piece: Sequence[int]) -> Ids:
    return np.array([*begin, *piece], np.int32)


def _made_up(tokenizer: Tokenizer, seed: int, tokens: int) -> list[int]:
    """Noise sentences: a text that says nothing, but needs no file."""
    draw = random.Random(f"text/{seed}")  # noqa: S311 - as above
    text = " ".join(Haystack().sentences(draw, tokens))  # a word has a token at least
    return tokenizer.encode(text, add_special_tokens=False)[:tokens]
