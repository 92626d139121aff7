"""Recorded conversations of agents as text, turn by turn: what was said until then, and how long the answer was.

Two forms are read, one JSON object a line, gzipped or not: tau-bench's trajectories (``messages``), and agent logs with
``session``, ``timestamp_us``, ``input`` and ``output``, whose inputs are without the answers before.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from infergc.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Turn:
    """One request.

    Attributes:
        prompt: the whole conversation until then.
        tokens: of it.
        answer: tokens of the recorded answer, at least 1.
        gap: seconds from the answer before to this request, as recorded; None where no times were.
    """

    prompt: str
    tokens: tuple[int, ...]
    answer: int
    gap: float | None


def read_conversations(path: Path, tokenizer: Tokenizer, longest: int) -> Iterator[list[Turn]]:
    """Conversations of a file in its order, each as far as its prompts have at most ``longest`` tokens.

    Those of which fewer than two turns are left are left out.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    spoken = map(_of_messages, records) if "messages" in records[0] else _of_inputs(records)
    for pieces in spoken:
        turns = list(_turns(pieces, tokenizer, longest))
        if len(turns) > 1:
            yield turns


@dataclass(frozen=True, slots=True)
class _Piece:
    """What was said to the model since its last answer, and what it answered."""

    said: str
    answer: str
    gap: float | None


def _of_messages(record: Mapping[str, Any]) -> Iterator[_Piece]:
    said = ""
    for message in record["messages"]:
        text = message.get("content") or json.dumps(message.get("tool_calls"))
        if message["role"] == "assistant":
            yield _Piece(f"{said}<assistant>\n", f"{text}\n", None)
            said = ""
        else:
            said += f"<{message['role']}>\n{text}\n"


def _of_inputs(records: list[dict[str, Any]]) -> Iterator[Iterator[_Piece]]:
    for _, session in groupby(records, lambda record: record["session"]):
        yield _of_session(list(session))


def _of_session(requests: list[dict[str, Any]]) -> Iterator[_Piece]:
    """Each input extends the one before; times are those of the requests."""
    before, since = "", requests[0]["timestamp_us"]
    for request in requests:
        said = request["input"].removeprefix(before)
        before, gap, since = request["input"], (request["timestamp_us"] - since) / 1e6, request["timestamp_us"]
        yield _Piece(f"<user>\n{said}\n<assistant>\n", f"{request['output']}\n", gap)


def _turns(pieces: Iterator[_Piece], tokenizer: Tokenizer, longest: int) -> Iterator[Turn]:
    prompt = ""
    for piece in pieces:
        prompt += piece.said
        tokens = tuple(tokenizer.encode(prompt))
        if len(tokens) > longest:
            return
        answer = len(tokenizer.encode(piece.answer, add_special_tokens=False))
        yield Turn(prompt, tokens, max(1, answer), piece.gap)
        prompt += piece.answer
