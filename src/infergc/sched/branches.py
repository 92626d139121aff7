"""Choices of one request that part after its prompt: computed once, then forked.

A branch shares the prompt's tokens but the last, which it computes itself: so it has logits of its own there, and
draws by its own seed. The first choice is what the request would be alone; what there is to say of the prompt is said
with it.
"""

from dataclasses import replace
from typing import Protocol

from infergc.heap.objects import TokenLog
from infergc.params import MAX_SEED
from infergc.sched.request import Request, Status

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ALL_BITS = (1 << 64) - 1


class Seats(Protocol):
    """Where requests run or wait for it: the scheduler."""

    def add(self, request: Request) -> None:
        """Let a request wait for a slot and memory."""
        ...

    def has_room(self) -> bool:
        """Whether one more could start from another's pages, and all that run go on beside it."""
        ...

    def fork(self, parent: Request, branch: Request, shared: int) -> bool:
        """Run a branch from its parent's first ``shared`` tokens; False where the parent or a slot is missing."""
        ...


def branch_seed(seed: int, index: int) -> int:
    """The seed of a request's choice: its own for the first, and as good as independent for the others.

    SplitMix64 (Steele, Lea & Flood 2014): output number ``index`` of the stream that ``seed`` starts.
    """
    if index == 0:
        return seed
    state = (seed + index * _GOLDEN) & _ALL_BITS
    state = ((state ^ (state >> 30)) * _MIX_1) & _ALL_BITS
    state = ((state ^ (state >> 27)) * _MIX_2) & _ALL_BITS
    return (state ^ (state >> 31)) & MAX_SEED


def with_branches(request: Request, names: tuple[str, ...]) -> list[Request]:
    """A request and the branches that will be forked from it, one for each name; it takes the first.

    The branches' numbers follow the request's.
    """
    prompt = request.tokens.view()
    for index, name in enumerate(names[1:], 1):
        seed = branch_seed(request.params.seed or 0, index)
        params = replace(request.params, seed=seed, prompt_logprobs=None)
        branch = replace(
            request, id=name, number=request.number + index, tokens=TokenLog(prompt), params=params,
            status=Status.PARKED, branches=[],
        )  # fmt: skip
        request.branches.append(branch)
    everyone = [request, *request.branches]
    for each in everyone:
        each.choices = everyone if len(everyone) > 1 else []
    return everyone


def part(parent: Request, seats: Seats) -> None:
    """The parent's prompt is computed: its branches run from there, or wait where there is no room."""
    shared = parent.prompt_len - 1
    for branch in release(parent):
        if not (seats.has_room() and seats.fork(parent, branch, shared)):
            seats.add(branch)


def release(parent: Request) -> list[Request]:
    """The branches that are still wanted; from here on they are requests like any other."""
    branches, parent.branches = parent.branches, []
    wanted = [branch for branch in branches if branch.status is not Status.FINISHED]
    for branch in wanted:
        branch.cached, branch.came_after = parent.cached, parent.came_after
    return wanted
