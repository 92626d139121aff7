"""A beam search among requests: each running hypothesis is a request that goes one token ahead of its group.

A hypothesis waits, or computes its last token, or has told what may follow and stands. When all stand, the group
advances: who goes on keeps its pages or forks another's, and who lost gives its pages back. A hypothesis may be
preempted at any time: one that stands needs no pages until the group advances.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from infergc.heap.group_root import GroupRoot
from infergc.heap.nodes import Namespace
from infergc.heap.objects import TokenLog
from infergc.sched.beams import BeamRules, Beams, Ended, Survivor
from infergc.sched.branches import Seats
from infergc.sched.finish import Finish
from infergc.sched.plan import I32, TokenLogprobs
from infergc.sched.request import Request, Status


class SearchSeats(Seats, Protocol):
    """What a search asks of the scheduler besides."""

    def lose(self, request: Request) -> None:
        """End a hypothesis; nothing of it is kept."""
        ...

    def keep(self, request: Request) -> None:
        """Let others share what is computed of a running request."""
        ...

    def choose(self, request: Request, token: int) -> None:
        """Go on with this token in place of the last known one, and one more."""
        ...


@dataclass(slots=True, eq=False)
class Hypothesis(Request):
    """A running hypothesis; ``report`` is what may follow it, None until that is known."""

    search: "BeamSearch" = field(kw_only=True)
    report: TokenLogprobs | None = None

    @property
    def stands(self) -> bool:
        """Whether it waits for the others of its group."""
        return self.report is not None


class Found(NamedTuple):
    """A text that a search found: its output, the sum of its log probabilities, and why it ended."""

    tokens: I32
    total: float
    score: float
    finish: Finish


class BeamSearch:
    """One search, from the first look at its prompt to its texts.

    Args:
        first: the request as it came; its prompt is computed once.
        rules: of the search.
        names: under which its texts are told, best first.
        group: holds the hypotheses' sequences.

    Attributes:
        members: the running hypotheses, best first.
        found: the best texts that ended, best first.
        session: that the request is a turn of; it is to keep the best text's KV.
        pinned: prompt tokens that were pinned for it, None if it asked for no pin.
    """

    def __init__(self, first: Request, rules: BeamRules, names: tuple[str, ...], group: GroupRoot) -> None:
        self.names = names
        self.group = group
        self.rules = rules
        self.prompt_len = first.prompt_len
        self.session = first.session
        self.pinned: int | None = None
        self.found: list[Found] = []
        self._params = replace(first.params, temperature=0.0)  # the token that a row samples is not used
        self.members = [self._hypothesis(first, first.number, first.tokens.view())]
        self._beams = Beams(rules)
        self._numbers = range(first.number, first.number + rules.width)

    @property
    def first(self) -> Hypothesis:
        """The best running hypothesis; the only one at the beginning."""
        return self.members[0]

    @property
    def cached(self) -> int:
        """Prompt tokens that were found in the prefix cache."""
        return self.first.cached or 0

    @property
    def namespace(self) -> Namespace:
        """Of the prefix cache."""
        return self.first.namespace

    @property
    def best(self) -> I32:
        """The best text that ended, prompt and output."""
        return np.concatenate((self.first.tokens.view()[: self.prompt_len], self.found[0].tokens))

    @property
    def told_tokens(self) -> int:
        """Tokens of the texts that are told."""
        return sum(len(found.tokens) for found in self.found[: len(self.names)])

    def land(self, hypothesis: Hypothesis, report: TokenLogprobs) -> bool:
        """What may follow a hypothesis is known; returns whether all stand now."""
        hypothesis.report = report
        return all(member.stands for member in self.members)

    def nearest(self, hypothesis: Hypothesis) -> tuple[Hypothesis | None, int]:
        """Who of those that run shares most tokens with a hypothesis that waits, and how many, once it stands."""
        computed = self.prompt_len + self._beams.length
        text = hypothesis.tokens.view()[:computed]
        best, most = None, 0
        for member in self.members:
            if member.status is Status.RUNNING:
                differs = np.flatnonzero(member.tokens.view()[:computed] != text)
                shared = int(differs[0]) if len(differs) else computed
                if shared > most:
                    best, most = member, shared
        return best, most

    def advance(self, seats: SearchSeats) -> bool:
        """All stand: let the best go on; returns whether the search is over. Cost: O(width) forks at most."""
        parents, known = self.members, self.prompt_len + self._beams.length
        texts = [parent.tokens.view()[:known].copy() for parent in parents]
        result = self._beams.advance([parent.report for parent in parents if parent.report is not None])
        for at in sorted({one.parent for one in result.ended}):
            seats.keep(parents[at])
        self._keep(texts, result.ended, result.lost)
        if not self._beams.over:
            self._go_on(parents, texts, result.survivors, seats)
        return self._beams.over

    def _go_on(
        self, parents: list[Hypothesis], texts: list[I32], survivors: Sequence[Survivor], seats: SearchSeats
    ) -> None:
        """Losers give their pages back first; then others are forked, before their parents go on."""
        alive = {survivor.parent for survivor in survivors}
        for at, parent in enumerate(parents):
            if at not in alive:
                seats.lose(parent)
        free = self._free_numbers(parents[at].number for at in alive)
        continued: dict[int, int] = {}  # parent → the survivor that takes its place
        for at, survivor in enumerate(survivors):
            continued.setdefault(survivor.parent, at)
        self.members = [
            parents[survivor.parent] if continued[survivor.parent] == at
            else self._fork(parents[survivor.parent], next(free), texts[survivor.parent], survivor.token, seats)
            for at, survivor in enumerate(survivors)
        ]  # fmt: skip
        for at, first in continued.items():
            self._continue(parents[at], texts[at], survivors[first].token, seats)

    def _free_numbers(self, taken: Iterator[int]) -> Iterator[int]:
        used = set(taken)
        return (number for number in self._numbers if number not in used)

    def _fork(self, parent: Hypothesis, number: int, text: I32, token: int, seats: SearchSeats) -> Hypothesis:
        branch = self._hypothesis(parent, number, np.append(text, np.int32(token)))
        if not seats.fork(parent, branch, len(text)):
            seats.add(branch)
        return branch

    def _continue(self, parent: Hypothesis, text: I32, token: int, seats: SearchSeats) -> None:
        parent.report = None
        parent.limit = len(text) + 2
        if parent.status is Status.RUNNING:
            seats.choose(parent, token)
        else:
            parent.tokens = TokenLog(np.append(text, np.int32(token)))
            seats.add(parent)

    def _hypothesis(self, origin: Request, number: int, tokens: I32) -> Hypothesis:
        return Hypothesis(
            id=self.names[0],
            number=number,
            tokens=TokenLog(tokens),
            prompt_len=self.prompt_len,
            params=self._params,
            limit=len(tokens) + 1,
            namespace=origin.namespace,
            priority=origin.priority,
            deadline=origin.deadline,
            came_after=origin.came_after,
            cached=origin.cached,
            reported=self.rules.reported,
            search=self,
        )

    def _keep(self, texts: list[I32], ended: Sequence[Ended], lost: int) -> None:
        """The best texts that ended, those of this round among them."""
        new = [
            Found(np.append(texts[one.parent][self.prompt_len :], np.int32(one.token)), one.total, one.score,
                  self._finish(one.token))
            for one in ended
        ]  # fmt: skip
        kept = self.found[: len(self.found) - lost]
        self.found = sorted(kept + new, key=lambda found: -found.score)

    def _finish(self, token: int) -> Finish:
        if token not in self.rules.ends:
            return Finish("length")
        return Finish("stop", token if token in self.first.params.stop_token_ids else None)
