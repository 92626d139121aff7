"""What a step brought to whom."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from infergc.sched.finish import Finish
from infergc.sched.plan import TokenLogprobs
from infergc.sched.request import Request
from infergc.sched.search import BeamSearch

Reports = Sequence[TokenLogprobs]


class Gain(NamedTuple):
    """A token that a request gained, and what else there is to say of it; ``prompt`` as ``StepOutcome.prompts``."""

    request: Request
    token: int
    finish: Finish | None
    logprobs: TokenLogprobs | None = None
    prompt: Reports = ()


@dataclass(slots=True)
class Progress:
    """A step's gains. Most requests merely go on: they are told as two columns, so that a row costs next to nothing.

    Attributes:
        ids: requests that gained a token and go on, in the plan's order.
        tokens: the tokens, in the same order.
        gains: the others that gained one: it was their first or last, or they asked for log probabilities.
        searches: beam searches that are over.
        prompts: requests that gained no token yet, with what there is to tell of their prompts.
        failures: requests that ended without a token, for they could not go on, each with the reason.
    """

    ids: list[str]
    tokens: list[int]
    gains: list[Gain] = field(default_factory=list)
    searches: list[BeamSearch] = field(default_factory=list)
    prompts: list[tuple[Request, Reports]] = field(default_factory=list)
    failures: list[tuple[Request, str]] = field(default_factory=list)
