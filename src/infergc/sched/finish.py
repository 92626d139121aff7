"""When a request is done."""

from dataclasses import dataclass

from infergc.sched.request import Request


@dataclass(frozen=True, slots=True)
class Finish:
    """Why a request ended: "stop", "length", "abort" or "error", and the stop id if one of its own ended it."""

    reason: str
    stop_id: int | None = None


def finish_after(request: Request, token: int, eos_ids: frozenset[int]) -> Finish | None:
    """Decide, after ``token`` was appended, whether the request ends. Limits yield to a stop on the same token."""
    params = request.params
    if request.output_len >= params.min_tokens:
        if token in request.stop_ids:
            return Finish("stop", token)
        if token in eos_ids and not params.ignore_eos:
            return Finish("stop")
    return Finish("length") if request.tokens.size >= request.limit else None
