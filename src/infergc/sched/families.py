"""Requests that belong together: the hypotheses of a beam search, the choices of one request."""

from collections.abc import Iterator, Sized

from infergc.heap.groups import pages_for
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


def coming_pages(request: Request, page_tokens: int) -> int:
    """Pages that the others of a family want which wait with it, beside whole ones of the prompt, and one more each.

    They are to come back together. None before a family has parted: then there is but one.
    """
    waiting = (member for member in kin(request) if member.status is Status.WAITING and member is not request)
    return sum(pages_for(member.tokens.size, page_tokens) - member.prompt_len // page_tokens + 1 for member in waiting)
