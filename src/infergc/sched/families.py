"""Requests that belong together: the hypotheses of a beam search, the choices of one request."""

from collections.abc import Iterator, Sized

from infergc.sched.request import Request, Status
from infergc.sched.search import Hypothesis


def kin(request: Request) -> Iterator[Request]:
    """A request's family, itself included."""
    if isinstance(request, Hypothesis):
        yield from request.search.members
    else:
        yield from request.choices or (request,)


def leaving(victim: Request, running: Sized) -> list[Request]:
    """Who gives way with a victim: all of its family that run, the last first.

    Where nobody else runs, the family itself is too large for memory, and the victim goes alone.
    """
    members = [member for member in kin(victim) if member.status is Status.RUNNING]
    if len(members) == len(running):
        return [victim]
    return sorted(members, key=lambda member: -member.number)


def coming_tokens(request: Request) -> int:
    """Tokens beside the prompt's that the others of a family hold which wait with it: they are to come back together.

    None before a family has parted: then there is but one.
    """
    waiting = (member for member in kin(request) if member.status is Status.WAITING and member is not request)
    return sum(member.tokens.size - member.prompt_len + 1 for member in waiting)
