"""What a step brought, as clients are told of it."""

from collections.abc import Iterable, Iterator

from infergc.engine.messages import Delta, Logprobs
from infergc.sched.plan import TokenLogprobs
from infergc.sched.progress import Gain
from infergc.sched.search import BeamSearch


def delta_of(gain: Gain) -> Delta:
    """A token of a request, and its end if that was the last."""
    request, finish = gain.request, gain.finish
    return Delta(
        request.id,
        [gain.token],
        finish=finish.reason if finish is not None else "",
        stop_id=finish.stop_id if finish is not None else None,
        cached_tokens=request.cached or 0,
        logprobs=as_logprobs([gain.logprobs] if gain.logprobs is not None else ()),
        pinned_tokens=request.pinned,
        prompt_logprobs=as_logprobs(gain.prompt),
        preemptions=request.preemptions,
    )


def text_deltas(search: BeamSearch) -> Iterator[Delta]:
    """The texts that a search found, as many as were asked for, best first."""
    for name, found in zip(search.names, search.found, strict=False):
        yield Delta(
            name, found.tokens.tolist(), found.finish.reason, found.finish.stop_id, search.cached,
            cumulative_logprob=found.total, pinned_tokens=search.pinned,
        )  # fmt: skip


def as_logprobs(reports: Iterable[TokenLogprobs]) -> list[Logprobs]:
    """Reports as messages."""
    return [Logprobs(report.sampled, report.rank, report.top_ids, report.top) for report in reports]
