"""The load of a throughput run: random prompts that every engine can be given alike. Standard library only.

So that peers in environments of their own can import it, this file needs nothing of the package.
"""

import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_ID = 10  # ids below are often special tokens
_FORM = re.compile(r"0*([1-9]\d*)x0*([1-9]\d*)x0*([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that start together, each of the same length in tokens.

    Raises:
        ValueError: a size is below 1; the message names the flag.
    """

    requests: int
    input_len: int
    output_len: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("requests", "input_len", "output_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')}: {getattr(self, name)} is less than 1")

    def __str__(self) -> str:
        return f"{self.requests}x{self.input_len}x{self.output_len}"

    @property
    def generated(self) -> int:
        """Tokens that a round generates."""
        return self.requests * self.output_len

    @property
    def tokens(self) -> int:
        """Tokens of a round, prompts and outputs."""
        return self.requests * (self.input_len + self.output_len)

    def prompts(self, number: int, vocab_size: int) -> list[list[int]]:
        """The prompts of a round; each round has new ones, so that no prefix cache carries over.

        They depend on the seed, the round and the sizes alone.

        Raises:
            ValueError: the vocabulary has no ids to draw from.
        """
        if vocab_size <= FIRST_ID:
            raise ValueError(f"--model: a vocabulary of {vocab_size} is too small; over {FIRST_ID} ids are needed")
        draw = random.Random(f"peers-{self.seed}-{number}")  # noqa: S311 - repeatable, not secret
        return [[draw.randrange(FIRST_ID, vocab_size) for _ in range(self.input_len)] for _ in range(self.requests)]


def parse_load(text: str, seed: int = 0) -> Load:
    """Read ``REQUESTSxINPUTxOUTPUT``, such as ``32x256x128``.

    Raises:
        ValueError: it is written otherwise, or a size is below 1.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a load; write requests, input and output lengths, each at least 1, as 32x256x128"
        )
    requests, input_len, output_len = map(int, match.groups())
    return Load(requests, input_len, output_len, seed)


def digest(outputs: Sequence[Sequence[int]]) -> str:
    """A short name of all output tokens: two runs that gave the same tokens have the same."""
    return hashlib.sha256(json.dumps([list(output) for output in outputs]).encode()).hexdigest()[:12]
