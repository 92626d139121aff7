"""Beam search: which continuations of a search's hypotheses are kept, and when it is over. Numbers, no tokens' KV.

The rules are those of ``generate`` in Hugging Face transformers 5 (``GenerationMixin._beam_search``), for one
prompt: scores are sums of log probabilities in float32; a hypothesis that ended is compared by its score divided by
its tokens to the power of ``length_penalty``.

Shapes: B running hypotheses, C candidates that a report names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infergc.params import SamplingParams
from infergc.sched.plan import I32, TokenLogprobs

F32 = NDArray[np.float32]
EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True, slots=True)
class BeamRules:
    """What a search is asked for.

    Attributes:
        width: hypotheses that run, and that are kept of those that ended.
        ends: tokens that end a hypothesis.
        length_penalty: over 0 favours longer texts, under 0 shorter ones.
        early_stopping: when to stop although better texts might come. True: as soon as ``width`` have ended.
            False: when the best that runs would not be better if it ended as it is. "never": when it could not
            become better by any continuation.
        min_tokens: no hypothesis ends by a token before it has so many.
        max_tokens: every hypothesis ends when it has so many, ≥ 1.
    """

    width: int
    ends: frozenset[int]
    length_penalty: float
    early_stopping: EarlyStopping
    min_tokens: int
    max_tokens: int

    @property
    def kept(self) -> int:
        """Candidates looked at in a round: so many that ``width`` of them go on if all ends are among them."""
        return max(2, 1 + len(self.ends)) * self.width

    @property
    def reported(self) -> int:
        """Likeliest tokens to be reported for each hypothesis; ends that are not allowed yet come on top."""
        return self.kept + (len(self.ends) if self.min_tokens else 0)


def end_tokens(params: SamplingParams, eos_ids: Sequence[int] | frozenset[int]) -> frozenset[int]:
    """The tokens that end a hypothesis: the request's own, and the model's unless it ignores them."""
    return frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else frozenset(eos_ids))


class Survivor(NamedTuple):
    """A hypothesis that goes on: which one it continues, and by what token."""

    parent: int
    token: int


class Ended(NamedTuple):
    """A hypothesis that ended.

    ``total`` is the sum of its log probabilities, ``score`` what it is compared by; its last token is ``token``.
    """

    score: float
    total: float
    parent: int
    token: int


class Round(NamedTuple):
    """What a round of the search came to.

    Attributes:
        survivors: who runs next, best first; none when the search is over.
        ended: who ended in this round and is among the best, best first.
        lost: how many of those that had ended before are no longer among the best: the last ones.
    """

    survivors: list[Survivor]
    ended: list[Ended]
    lost: int


class Beams:
    """The scores of one search.

    Attributes:
        length: tokens that each running hypothesis has.
        over: whether the search has come to its end.
    """

    def __init__(self, rules: BeamRules) -> None:
        self.rules = rules
        self.length = 0
        self.over = False
        self._running: F32 = np.zeros(1, np.float32)  # totals, best first
        self._ended: list[float] = []  # scores of the best that ended, best first

    def advance(self, reports: Sequence[TokenLogprobs]) -> Round:
        """Take what is likely to follow each running hypothesis, in their order; cost O(B × C log(B × C))."""
        parents, tokens, totals = self._candidates(reports)
        stops = np.isin(tokens, list(self.rules.ends)) | (self.length + 1 >= self.rules.max_tokens)
        ended, lost = self._rank(parents, tokens, totals, stops)
        going = np.flatnonzero(~stops)[: self.rules.width]
        self.length += 1
        self._running = totals[going]
        self.over = not len(going) or self._is_decided()
        survivors = [] if self.over else [Survivor(int(parents[at]), int(tokens[at])) for at in going]
        return Round(survivors, ended, lost)

    def _candidates(self, reports: Sequence[TokenLogprobs]) -> tuple[NDArray[np.intp], I32, F32]:
        """The best continuations of all hypotheses, best first; of equals the earlier hypothesis's, then by token."""
        ids = np.array([report.top_ids for report in reports], np.int32)  # [B, C]
        sums = np.array([report.top for report in reports], np.float32) + self._running[:, None]  # [B, C]
        if self.length < self.rules.min_tokens:
            sums[np.isin(ids, list(self.rules.ends))] = -np.inf
        parents = np.repeat(np.arange(len(reports)), ids.shape[1])
        tokens, totals = ids.ravel(), sums.ravel()
        best = np.lexsort((tokens, parents, -totals))[: self.rules.kept]
        return parents[best], tokens[best], totals[best]

    def _rank(
        self, parents: NDArray[np.intp], tokens: I32, totals: F32, stops: NDArray[np.bool_]
    ) -> tuple[list[Ended], int]:
        """Put those of the first ``width`` candidates that end among the best that ended."""
        here = np.flatnonzero(stops[: self.rules.width])
        scores = self._scores(totals[here], self.length + 1)
        new = [
            Ended(float(score), float(totals[at]), int(parents[at]), int(tokens[at]))
            for score, at in zip(scores, here, strict=True)
        ]
        before = len(self._ended)
        merged = sorted([(-score, 0) for score in self._ended] + [(-one.score, 1) for one in new])[: self.rules.width]
        self._ended = [-score for score, _ in merged]
        kept = sum(is_new for _, is_new in merged)
        return sorted(new, key=lambda one: -one.score)[:kept], before - (len(merged) - kept)

    def _is_decided(self) -> bool:
        """Whether what runs is not worth waiting for."""
        if len(self._ended) < self.rules.width:
            return False
        rules = self.rules
        reaches = rules.early_stopping == "never" and rules.length_penalty > 0
        best = self._scores(self._running[:1], rules.max_tokens if reaches else self.length)
        return rules.early_stopping is True or float(best[0]) <= self._ended[-1]

    def _scores(self, totals: F32, length: int) -> F32:
        return np.asarray(totals / np.float32(length**self.rules.length_penalty), np.float32)
