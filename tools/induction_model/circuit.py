"""The weights of the circuit; docs/induction-model.md says why they are these.

Shapes: V vocabulary, E hidden, D head dim, n channels of a code. A hidden state is made of blocks:

    code 0 … n-1 | here | bos | k × (code of the token m before: n, its bos) | answer: n | zeros
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from induction_model.codes import LEAST_GAP, token_codes
from induction_model.shape import BOS, END, MARGIN, Shape

Array = npt.NDArray[np.float64]
Span: TypeAlias = "slice[int, int, None]"
INNER = 32  # width of the multilayer perceptrons, all zero
ANSWER = 2.0  # nats of a logit for each channel of the answer
_SPREAD = 0.5  # keys are between 2^-_SPREAD and 2^_SPREAD times their mean size
_STEP = 32  # hidden sizes are multiples of this


@dataclass(frozen=True)
class Layout:
    """Where the blocks of a hidden state begin."""

    shape: Shape

    @property
    def here(self) -> int:
        """1 in every token but <|bos|>."""
        return self.shape.code

    @property
    def bos(self) -> int:
        """sqrt(n + 1) in <|bos|>, so that all embeddings are of one length."""
        return self.shape.code + 1

    def before(self, m: int) -> Span:
        """Code of the token m places before, 0 being the token itself."""
        start = 0 if m == 0 else self.shape.code + 2 + (m - 1) * (self.shape.code + 1)
        return slice(start, start + self.shape.code)

    @property
    def answer(self) -> Span:
        """What the last matrix reads."""
        start = self.before(self.shape.match).stop + 1
        return slice(start, start + self.shape.code)

    @property
    def hidden(self) -> int:
        """E: all blocks, rounded up."""
        return (self.answer.stop + _STEP - 1) // _STEP * _STEP

    @property
    def one(self) -> Array:
        """A row of weights that reads 1 of every token."""
        row = np.zeros(self.hidden)
        row[[self.here, self.bos]] = 1.0, 1.0 / np.sqrt(self.shape.code + 1)
        return row


def weights(shape: Shape, seed: int) -> dict[str, Array]:
    """Every tensor of the checkpoint but those that are zero, by name."""
    at, n = Layout(shape), shape.code
    codes = token_codes(shape.vocab, seed)
    codes[BOS] = 0.0
    embedding = np.zeros((shape.vocab, at.hidden))
    embedding[:, at.before(0)] = codes
    embedding[:, at.here] = 1.0
    embedding[BOS, [at.here, at.bos]] = 0.0, np.sqrt(n + 1)
    head = np.zeros_like(embedding)
    head[:, at.answer] = ANSWER * codes
    tensors: dict[str, Array] = {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    layers = [_look_back(shape, at, known, more) for known, more in shape.gathering]
    layers.append(_look_up(shape, at, codes[END], seed))
    for layer, parts in enumerate(layers):
        tensors |= {f"model.layers.{layer}.self_attn.{name}_proj.weight": part for name, part in parts.items()}
        tensors[f"model.layers.{layer}.post_attention_layernorm.weight"] = np.ones(at.hidden)
    # a norm divides by the root of the mean square, which is the same of all states: so the weight undoes it
    blocks = [known for known, _ in shape.gathering] + [shape.match + 1, shape.match + 2]
    names = [f"model.layers.{layer}.input_layernorm" for layer in range(len(layers))] + ["model.norm"]
    for name, filled in zip(names, blocks, strict=True):
        tensors[f"{name}.weight"] = np.full(at.hidden, np.sqrt((1 + filled * n) / at.hidden))
    return tensors


def _empty(shape: Shape, at: Layout) -> dict[str, Array]:
    parts = {name: np.zeros((shape.head_dim, at.hidden)) for name in "qkv"}
    return parts | {"o": np.zeros((at.hidden, shape.head_dim))}


def _put_sink(parts: dict[str, Array], shape: Shape, at: Layout, nats: float) -> None:
    """The key of <|bos|> scores so many nats with every query."""
    channel, size = shape.content_channels()[0], np.sqrt(nats * np.sqrt(shape.head_dim))
    parts["q"][channel] = size * at.one
    parts["k"][channel, at.bos] = size / np.sqrt(shape.code + 1)


def _look_back(shape: Shape, at: Layout, known: int, more: int) -> dict[str, Array]:
    """See the token ``known`` places before by rotation alone, or <|bos|>, and copy its first ``more`` codes."""
    parts, n, fast = _empty(shape, at), shape.code, shape.fast_pairs
    # scores are divided by sqrt(D); keys are of one size in all pairs, queries have the amplitudes
    size = np.sqrt(shape.amplitudes.max() * np.sqrt(shape.head_dim))
    parts["k"][:fast, at.here] = size
    amplitudes, angles = shape.amplitudes * np.sqrt(shape.head_dim) / size, -shape.frequencies * known
    parts["q"][:fast] = np.outer(amplitudes * np.cos(angles), at.one)
    parts["q"][shape.pairs : shape.pairs + fast] = np.outer(amplitudes * np.sin(angles), at.one)
    for m in range(more):
        source, target, rows = at.before(m), at.before(known + m), np.arange(n + 1) + m * (n + 1)
        bos = at.bos if m == 0 else source.stop
        parts["v"][rows, [*range(source.start, source.stop), bos]] = 1.0
        parts["o"][np.arange(target.start, target.stop + 1), rows] = 1.0
    parts["v"][n, at.bos] = np.sqrt(n / (n + 1))
    _put_sink(parts, shape, at, shape.amplitudes.sum() - MARGIN)
    return parts


def _look_up(shape: Shape, at: Layout, end: Array, seed: int) -> dict[str, Array]:
    """See the tokens before which stand the last k, or <|bos|>, and read their codes: of <|bos|> that of <|end|>."""
    parts, n = _empty(shape, at), shape.code
    # keys differ in size from pair to pair, as in trained models, and queries the other way round
    spread = 2.0 ** np.random.default_rng((seed, 2)).uniform(-_SPREAD, _SPREAD, shape.pairs)
    size = np.sqrt(shape.unit * np.sqrt(shape.head_dim))
    channels = np.array(shape.content_channels()[1:])
    for m in range(shape.match):
        rows = channels[m * n : (m + 1) * n]
        parts["q"][rows, np.arange(n) + at.before(m).start] = size / spread[rows % shape.pairs]
        parts["k"][rows, np.arange(n) + at.before(m + 1).start] = size * spread[rows % shape.pairs]
    parts["v"][np.arange(n), np.arange(n)] = 1.0
    parts["v"][:n, at.bos] = end / np.sqrt(n + 1)
    parts["o"][np.arange(at.answer.start, at.answer.stop), np.arange(n)] = 1.0
    _put_sink(parts, shape, at, shape.unit * (shape.match * n - LEAST_GAP / 2))
    return parts
