"""What the circuit's sizes follow from, and what fits."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from induction_model.codes import LEAST_GAP, MOST_TOKENS, code_length

SPECIAL_TOKENS = ("<|bos|>", "<|end|>", "<|pad|>")  # ids 0, 1, 2
BOS, END, PAD = range(3)
LEAST_TOKENS = len(SPECIAL_TOKENS) + 256
HEAD_DIMS = (64, 128, 256)
MOST_CONTEXT = 131_072

MARGIN = 30.0  # nats by which what an attention head is to see outweighs each other key: 16,384 e^-30 = 2e-9
_DRIFT = 0.1  # radians that the fastest content pair turns in the whole context
_MOST_THETA = 1e38  # of float32
_FALLING = 0.2  # amplitude of a position pair: its frequency to this power


class ShapeError(ValueError):
    """An option that cannot be; the message names its flag."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes:
        vocab: tokens: the special ones, 256 bytes, and others that no text has.
        match: the last so many tokens are looked for.
        head_dim: channels of a head.
        context: longest text in tokens.

    Raises:
        ShapeError: a size is not allowed, or codes of so many tokens do not fit in a head.
    """

    vocab: int = LEAST_TOKENS
    match: int = 5
    head_dim: int = 128
    context: int = 16_384

    def __post_init__(self) -> None:
        if not LEAST_TOKENS <= self.vocab <= MOST_TOKENS:
            raise ShapeError(f"--vocab takes {LEAST_TOKENS} to {MOST_TOKENS}, not {self.vocab}")
        if self.head_dim not in HEAD_DIMS:
            raise ShapeError(f"--head-dim takes {', '.join(map(str, HEAD_DIMS))}, not {self.head_dim}")
        if not 64 <= self.context <= MOST_CONTEXT:
            raise ShapeError(f"--context takes 64 to {MOST_CONTEXT}, not {self.context}")
        most = max(match for match in range(self.head_dim) if self._fits(match))
        if not 1 <= self.match <= most:
            raise ShapeError(
                f"--match takes 1 to {most}, not {self.match}: a head of {self.head_dim} channels (--head-dim) "
                f"holds no more codes of {self.code} channels (--vocab {self.vocab})"
            )

    @cached_property
    def code(self) -> int:
        """Channels of a token's code."""
        return code_length(self.vocab)

    @property
    def pairs(self) -> int:
        """Pairs of channels that rotary embedding turns together: i and i + pairs."""
        return self.head_dim // 2

    @property
    def fast_pairs(self) -> int:
        """The first so many pairs tell positions; the others hold codes and the sink, one channel."""
        return self._fast_pairs(self.match)

    @property
    def gathering(self) -> list[tuple[int, int]]:
        """Of each layer before the last: how many codes a position knows, and how many it gets from so far before."""
        steps, known = [], 1
        while known <= self.match:
            more = min(known, self.match + 1 - known)
            steps.append((known, more))
            known += more
        return steps

    @property
    def theta(self) -> float:
        """Base of the rotary frequencies: the first pair that holds a code turns by 0.1 in the whole context."""
        return float(f"{self._theta(self.match):.3g}")

    @cached_property
    def frequencies(self) -> npt.NDArray[np.float64]:
        """Radians a token of each pair that tells positions."""
        exponents = np.arange(self.fast_pairs) / self.pairs
        return np.asarray(self.theta**-exponents)

    @cached_property
    def amplitudes(self) -> npt.NDArray[np.float64]:
        """How much each of these pairs adds to a score, in nats.

        The sum of ``amplitude · (1 - cos(frequency · distance))`` is at least two margins at every distance but 0.
        """
        shares = self.frequencies**_FALLING
        distances = np.arange(1, self.context + self.match)
        gap = min(
            float(((1.0 - np.cos(np.outer(block, self.frequencies))) @ shares).min())
            for block in np.array_split(distances, math.ceil(len(distances) / 4096))
        )
        return np.asarray(shares * (2 * MARGIN / gap))

    @property
    def unit(self) -> float:
        """Nats of the last layer's score for each channel in which query and key agree."""
        return 2 * MARGIN / LEAST_GAP

    def content_channels(self) -> list[int]:
        """Channels of a head for the sink and then the codes, those that turn least first."""
        channels = (pair + half * self.pairs for pair in reversed(range(self.pairs)) for half in (0, 1))
        return [channel for channel, _ in zip(channels, range(1 + self.match * self.code), strict=False)]

    def _fast_pairs(self, match: int) -> int:
        return self.pairs - math.ceil((1 + match * self.code) / 2)

    def _theta(self, match: int) -> float:
        return math.exp(math.log(self.context / _DRIFT) * self.pairs / self._fast_pairs(match))

    def _fits(self, match: int) -> bool:
        fast = self._fast_pairs(match)
        return fast > 0 and math.log(self.context / _DRIFT) * self.pairs / fast < math.log(_MOST_THETA)
