"""Forced decoding of windows of text: how likely each token was, and how far from what full precision finds likely.

A window's first ``prefill`` tokens are its prompt. Each later one is fed by itself and reads all KV before it out of
pages, as when a model generates. A pass that computes a window at once would not: there a chunk's own K and V are at
hand as they were computed, and whatever is lost as they are kept goes unseen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infergc.engine.messages import Submit
from infergc.engine.scripts import Continuation
from infergc.evaluation.likelihoods import Likelihoods
from infergc.evaluation.plan import REFERENCE
from infergc.evaluation.subject import Answer, Subject
from infergc.evaluation.windows import Ids
from infergc.params import SamplingParams
from infergc.units import ceil_div

Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Job:
    """One window under one engine.

    Attributes:
        number: names it among the jobs of a run.
        ids: of the window.
        prefill: tokens of its prompt.
        rows: file of the reference's log probabilities, which the reference writes and the variant reads.
    """

    number: int
    ids: Ids
    prefill: int
    rows: Path

    @property
    def decoded(self) -> int:
        """Tokens that are fed one by one."""
        return len(self.ids) - self.prefill


class Found:
    """What is gathered of a window, by index after the prompt."""

    def __init__(self, job: Job, role: str, vocab_size: int) -> None:
        self._tokens = job.ids[job.prefill :]
        self._is_reference = role == REFERENCE
        self._rows = Likelihoods(job.rows, vocab_size, writes=self._is_reference)
        self._nll = np.zeros(job.decoded)
        self._kl = np.zeros(job.decoded)
        self._agrees = np.zeros(job.decoded, np.bool_)

    def take(self, index: int, row: Row) -> None:
        """See ``engine.scripts.Continuation``."""
        self._nll[index] = -row[self._tokens[index]]
        if self._is_reference:
            self._rows.write(index, row)
            return
        reference = self._rows.read(index)
        self._kl[index] = divergence(reference, row)
        self._agrees[index] = reference.argmax() == row.argmax()

    def finish(self, answer: Answer) -> dict[str, Any]:
        """All of it, as plain data."""
        self._rows.close()
        found: dict[str, Any] = {"nll": self._nll.tolist(), "preemptions": answer.preemptions}
        if self._is_reference:
            self._rows.finish()
            return found
        return {**found, "kl": self._kl.tolist(), "agrees": self._agrees.astype(int).tolist()}

    def close(self) -> None:
        """Let go of files. Harmless when repeated."""
        self._rows.close()


def divergence(reference: Row, other: Row) -> float:
    """KL(reference ‖ other) = Σ p · (ln p - ln q) in nats, of natural log probabilities; exactly 0 for equal ones."""
    ln_p = reference.astype(np.float64)
    kept = np.isfinite(ln_p)  # where p = 0 the term is 0
    return max(0.0, float(np.sum(np.exp(ln_p[kept]) * (ln_p[kept] - other[kept]))))


def decode(
    subject: Subject,
    role: str,
    jobs: Sequence[Job],
    most: int,
    ended: Callable[[Job, dict[str, Any]], None],
) -> None:
    """Decode windows, as many at once as fit whole: none has to give way, for then its KV would be computed anew.

    Args:
        subject: that is examined; it takes scripts.
        role: the reference writes its log probabilities, the variant reads them.
        jobs: of it.
        most: windows at once.
        ended: told of each that is over.

    Raises:
        RuntimeError: the engine gave up.
    """
    page, capacity = subject.ready.page_tokens, subject.ready.kv_capacity_tokens
    longest = max((len(job.ids) for job in jobs), default=0)
    wave = max(1, min(most, capacity // max(page, ceil_div(longest + 1, page) * page)))
    for start in range(0, len(jobs), wave):
        _together(subject, role, jobs[start : start + wave], ended)


def _together(subject: Subject, role: str, jobs: Sequence[Job], ended: Callable[[Job, dict[str, Any]], None]) -> None:
    found = {str(job.number): (job, Found(job, role, subject.ready.vocab_size)) for job in jobs}

    def over(name: str, answer: Answer) -> None:
        job, one = found[name]
        ended(job, one.finish(answer))

    for job, one in found.values():
        subject.script[job.number] = Continuation(job.ids[job.prefill :], one.take)
    try:
        subject.run([_request(job, role) for job in jobs], over)
    finally:
        subject.script.clear()
        for _, one in found.values():
            one.close()


def _request(job: Job, role: str) -> Submit:
    params = SamplingParams(max_tokens=job.decoded, temperature=0, ignore_eos=True, seed=job.number)
    return Submit(str(job.number), job.ids[: job.prefill].tolist(), params, salt=f"{role}/{job.number}")
