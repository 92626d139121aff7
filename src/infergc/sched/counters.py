"""What the scheduler counts."""

from dataclasses import dataclass


@dataclass(slots=True)
class SchedulerCounters:
    """Running totals since start."""

    preemptions: int = 0
    prompt_tokens: int = 0  # of requests admitted for the first time
    generation_tokens: int = 0
    prefix_queries: int = 0  # prompt tokens looked up, first admissions only
    prefix_hits: int = 0  # of those, found
    prefix_hits_host: int = 0  # of those, copied from the host tier
    prefix_hits_disk: int = 0  # of those, read from disk for the request before
    recomputed_tokens: int = 0  # computed before, lost by preemption, computed again
