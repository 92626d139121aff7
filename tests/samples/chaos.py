"""A load as clients make it: shared prefixes, choices, beams and sessions, and many who leave before they are told."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

DROPPED = 0.3  # of the requests, at a random moment
_AT_ONCE = 0.25  # of those, before anything can have been told
_LONGEST_PATIENCE = 0.6  # seconds
_IDS = 60  # token ids of prompts
_ENDLESS = 1000  # tokens; nobody has the patience, and four hypotheses of it fit into memory
_STEMS = (40, 96, 130, 200)  # tokens that prompts have in common
_KINDS = ("plain", "choices", "beams", "session", "grammar")
_NO_END = "[a-z ]{20000,}"
_SESSIONS = 12  # open at a time, at most
_DELETED = 0.3  # of the turns that name a session are followed by its deletion, at once


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        kind: one of plain, choices, beams, session, grammar.
        params: sampling parameters, by the names that the offline API and the HTTP API share.
        session: whose turn it is, "" for none.
        deletes: the session is deleted while the request may run.
        streams: whether the answer is to come piece by piece.
        patience: seconds after which the client leaves; None: it waits for the end.
    """

    kind: str
    prompt: list[int]
    params: dict[str, Any]
    session: str
    deletes: bool
    streams: bool
    patience: float | None

    @property
    def choices(self) -> int:
        """Texts that are told."""
        return int(self.params.get("n", 1))


def load(count: int, seed: int) -> Iterator[Asked]:
    """So many requests; those whose client leaves would go on for longer than it waits."""
    rng = np.random.default_rng(seed)
    stems = [rng.integers(5, _IDS, length).tolist() for length in _STEMS]
    for number in range(count):
        yield _asked(rng, stems, number)


def sessions() -> list[str]:
    """Every session that a load may name."""
    return [f"chat {number}" for number in range(_SESSIONS)]


def _asked(rng: np.random.Generator, stems: list[list[int]], number: int) -> Asked:
    kind = str(rng.choice(_KINDS, p=(0.3, 0.2, 0.2, 0.2, 0.1)))
    stem = stems[rng.integers(len(stems))]
    prompt = stem[: rng.integers(1, len(stem) + 1)] + rng.integers(5, _IDS, rng.integers(1, 24)).tolist()
    patience = _patience(rng) if rng.random() < DROPPED else None
    tokens = int(rng.integers(1, 24)) if patience is None else _ENDLESS
    params = {"max_tokens": tokens, "seed": number, **_special(kind, rng)}
    session = sessions()[rng.integers(_SESSIONS)] if kind == "session" else ""
    deletes = bool(session) and rng.random() < _DELETED
    return Asked(kind, prompt, params, session, deletes, bool(rng.random() < 0.5), patience)


def _patience(rng: np.random.Generator) -> float:
    return float(rng.uniform(0, 0.01 if rng.random() < _AT_ONCE else _LONGEST_PATIENCE))


def _special(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    """What a kind asks for; none comes to an end before its last token."""
    width = int(rng.integers(2, 5))
    if kind == "grammar":
        return {"structured_outputs": {"regex": _NO_END}}
    branching = {"choices": {"n": width}, "beams": {"n": width, "use_beam_search": True}}
    return {"ignore_eos": True, **branching.get(kind, {})}
