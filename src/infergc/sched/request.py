"""A request and where it stands."""

from dataclasses import dataclass, field
from enum import Enum

from infergc.cache_control import CacheControl
from infergc.heap.nodes import Namespace
from infergc.heap.objects import KnownTokens, Sequence, Session
from infergc.params import SamplingParams


class Status(Enum):
    """Where a request stands.

    Loading: its pages are being read from disk. Waiting for memory and a slot, running, parked until others of its
    family have come as far, or finished.
    """

    LOADING = "loading"
    WAITING = "waiting"
    RUNNING = "running"
    PARKED = "parked"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Request:
    """One request. While it runs, its counts stand in the scheduler's rows, at its sequence's slot.

    Attributes:
        id: the client's name for it.
        number: ascending in order of arrival; breaks ties.
        tokens: prompt and output known so far.
        prompt_len: tokens of the prompt.
        limit: most tokens, prompt and output together.
        priority: smaller is sooner, under the priority policy.
        deadline: the second of the engine from which on it is too late to start it, None if it never is.
        came_after: tokens of the prompts that came before it: its place on the work clock; -1 before it is queued.
        at_hand: tokens of it that were cached when the queue last looked, where its ordering wants to know.
        session: that it is a turn of, from submission to its end, though it may be closed before.
        sequence: its hold on the heap while running.
        last_step: the last step that computed for it before it was preempted, -1 if it never was.
        computed: tokens whose KV was computed when it was last preempted.
        cached: prompt tokens found in the prefix cache at first admission, None before it.
        preemptions: how often it had to give way.
        branches: choices that share its prompt and are forked when that is computed; until then they are parked.
        choices: it and those that were or will be forked from it or with it; none where it is the only one.
        cache_control: how its prompt's pages are to be kept; None once that was seen to, or if nothing was said.
        pinned: prompt tokens that were pinned for it; None before that, or if it asked for no pin.
        claim: keys of pages that are kept for it in lower tiers until it runs.
        sought: whether the disk was asked for it when it was first in line.
        read: tokens whose pages were read from disk for it.
        restored: tokens whose pages were copied from the host tier when it was last looked for them.
        reported: likeliest tokens to be reported with each token whatever ``params`` ask for, 0 for none.
        told: prompt tokens after which the next one's log probability was told, where ``params`` ask for that.
    """

    id: str
    number: int
    tokens: KnownTokens
    prompt_len: int
    params: SamplingParams
    limit: int
    namespace: Namespace
    priority: int = 0
    deadline: int | None = None
    came_after: int = -1
    at_hand: int = 0
    session: Session | None = None
    status: Status = Status.WAITING
    sequence: Sequence | None = None
    last_step: int = -1
    computed: int = 0
    cached: int | None = None
    preemptions: int = 0
    stop_ids: frozenset[int] = field(default_factory=frozenset)
    branches: list["Request"] = field(default_factory=list)
    choices: list["Request"] = field(default_factory=list, repr=False)
    reported: int = 0
    told: int = 0
    cache_control: CacheControl | None = None
    pinned: int | None = None
    claim: list[bytes] = field(default_factory=list)
    sought: bool = False
    read: int = 0
    restored: int = 0

    @property
    def started(self) -> bool:
        """Whether it ever ran; who was preempted did."""
        return self.cached is not None

    @property
    def tells_prompt(self) -> bool:
        """Whether log probabilities of its prompt are still to be told."""
        return self.params.prompt_logprobs is not None and self.told < self.prompt_len - 1

    @property
    def reusable(self) -> int:
        """How many of its first tokens need not be computed where their KV is at hand.

        All but the last, whose logits choose the next token; and of a prompt that is to be told of only those told.
        """
        return self.told if self.tells_prompt else self.tokens.size - 1

    @property
    def place(self) -> range:
        """Positions that are computed next when nothing of it is: all of its prompt, or its latest token."""
        return range(self.tokens.size - 1 if self.output_len else 0, self.tokens.size)

    @property
    def gate(self) -> int:
        """How many tokens its row may have for now: it does not go on before its branches were forked."""
        return self.prompt_len + 1 if self.branches else self.limit

    @property
    def output_len(self) -> int:
        """Tokens generated so far."""
        return self.tokens.size - self.prompt_len

    @property
    def held(self) -> Sequence:
        """The sequence of a running request."""
        assert self.sequence is not None, f"request {self.id} is not running"
        return self.sequence
