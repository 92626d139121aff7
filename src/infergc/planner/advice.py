"""What to switch on for a bottleneck: the survey's decision tree, each branch with the figure that decides it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infergc.planner.cases import BUDGET, LONG, TIER, Case
from infergc.planner.load import Load
from infergc.planner.memory import written
from infergc.planner.probe import PREEMPTED
from infergc.sim.geometry import Geometry

Verdict = Literal["on", "would help", "little gain", "cannot be told", "does not apply"]

MUCH = 0.05  # of the rate: less is no reason to build or buy anything
_WORTH_A_FLAG = 0.01  # of the rate
_TOO_FEW = "a run has too few requests to compare rates"


@dataclass(frozen=True, slots=True)
class Advice:
    """One technique.

    Attributes:
        technique: what it is.
        when: the condition under which it is the answer.
        verdict: ``on``: the engine has it, and the flag sets it; ``would help``: it has not.
        finding: what the simulator says.
        flag: to paste; "" where there is none.
        offered: whether this version has it.
    """

    technique: str
    when: str
    verdict: Verdict
    finding: str
    flag: str = ""
    offered: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """What advice is drawn from.

    Attributes:
        model: that is served.
        load: that is planned for.
        base: the engine that was asked for, at its full load.
        cases: what else was tried, by name.
        certain: requests that never preempt each other, however long each is.
        places: sequences that the engine is to run at most.
        kv: bytes of the pool.
    """

    model: Geometry
    load: Load
    base: Case
    cases: Mapping[str, Case]
    certain: int
    places: int
    kv: int

    @property
    def bounds(self) -> bool:
        """Whether texts are long enough, and not bounded yet, to be bounded."""
        return not self.model.windows and int(self.load.lengths.max()) >= LONG

    @property
    def lengths(self) -> str:
        """Of the load's texts, for people."""
        mean, most = int(self.load.lengths.mean()), int(self.load.lengths.max())
        return f"{most:,} tokens each" if mean == most else f"{mean:,} tokens on the average and {most:,} at most"


def advise(found: Findings) -> list[Advice]:
    """All branches of the tree, in its order; those that do not apply say so."""
    branches = (_quantise, _evict, _offload, _restore, _share, _order, _persist, _rebuild, _predictable, _encoder)
    return [branch(found) for branch in branches]


def _quantise(found: Findings) -> Advice:
    technique, when = "quantised KV", "storing or reading KV is the limit"
    case, model = found.cases.get("kv_8_bits"), found.model
    if case is None:
        return Advice(technique, when, "cannot be told", _TOO_FEW if found.load.recorded else "it cannot be simulated")
    words = f"8 bits instead of {8 * model.value_bytes} ({model.dtype}): {_change(case, found.base)}"
    return Advice(technique, when, _gain(case, found.base), words)


def _evict(found: Findings) -> Advice:
    technique, when = "eviction within a text", "contexts are long"
    case = found.cases.get("bounded")
    if case is None:
        return _untold(technique, when) if found.bounds else _unfit(technique, when, _why_not_bounded(found))
    finding = f"{BUDGET:,} tokens kept of each text: {_change(case, found.base)}"
    return Advice(technique, when, _gain(case, found.base), finding)


def _offload(found: Findings) -> Advice:
    technique, when = "offload to host memory", "contexts are long and come again"
    case = found.cases.get("large_cache")
    if case is None:
        words = "no prompts begin alike: what is kept is not asked for again"
        return _unshared(found, technique, when, words, offered=True)
    finding = f"at best, as a cache of {TIER} times the size: {_hits(case, found.base)}, {_rate(case, found.base)}"
    flag = f"--host-cache-memory {written((TIER - 1) * found.kv)}"
    return _flagged(technique, when, finding, flag, case.rate_gain(found.base), MUCH)


def _restore(found: Findings) -> Advice:
    technique, when = "asynchronous restore", "work is preempted"
    case = found.cases.get("crowd")
    if case is None:
        if found.load.recorded:
            return _untold(technique, when, offered=True)
        return _unfit(technique, when, "no more can be let in", offered=True)
    outcome, base = case.outcome, found.base
    preempted = f"with {case.clients:,} let in at a time, {outcome.preempted:.1%} are preempted"
    if outcome.preempted <= PREEMPTED:
        return _unfit(technique, when, preempted, offered=True)
    finding = f"{preempted} and {outcome.recomputed:.1%} of the tokens computed twice, which is all that it can save"
    if base.rate_gain(case) < _WORTH_A_FLAG:
        return Advice(technique, when, "little gain", f"{finding}; even so {_rate(case, base)}", offered=True)
    cap = "a cap on what runs, or asynchronous restore by --host-cache-memory"
    finding = f"{preempted}; with {base.clients:,}, {base.outcome.preempted:.1%}, and {_rate(base, case)}"
    return Advice(cap, when, "on", finding, f"--max-num-seqs {found.places}", offered=True)


def _share(found: Findings) -> Advice:
    technique, when, flag = "sharing by prefix", "prompts begin alike", "--enable-prefix-caching"
    without = found.cases.get("no_prefix_cache")
    if without is None:
        return _unshared(found, technique, when, "no prompts begin alike in this load", offered=True)
    finding = f"{found.base.outcome.hits:.1%} of prompt tokens found: {_change(found.base, without)}"
    return _flagged(technique, when, finding, flag, found.base.rate_gain(without))


def _order(found: Findings) -> Advice:
    technique, when = "retention by last use alone", "what comes again comes soon"
    case = found.cases.get("lru")
    if case is None:
        if found.load.shares and not found.base.outcome.steady:
            return _untold(technique, when, offered=True)
        return _unfit(technique, when, "nothing that is shared is evicted", offered=True)
    finding = f"{_hits(case, found.base)} by generations, {_rate(case, found.base)}"
    return _flagged(technique, when, finding, "--retention-policy lru", case.rate_gain(found.base))


def _persist(found: Findings) -> Advice:
    technique, when = "persistence of prefixes", "prompts begin alike after a restart"
    cold = found.cases.get("no_prefix_cache")
    if cold is None:
        return _unshared(found, technique, when, "no prompts begin alike: there is nothing to keep", offered=True)
    finding = f"a cache that begins empty costs at most what none does: {_rate(cold, found.base)}"
    return _flagged(technique, when, finding, "--disk-cache-dir DIR", found.base.rate_gain(cold), MUCH)


def _rebuild(found: Findings) -> Advice:
    said = "the load names beginnings only" if found.load.shares else "the load has lengths alone"
    return Advice("selective reconstruction", "prompts share pieces that do not stand first", "cannot be told", said)


def _predictable(found: Findings) -> Advice:
    technique, when = "constrained caches", "batches must be predictable"
    sure = found.cases.get("certain")
    if sure is None:
        if found.certain < found.base.clients:
            return _untold(technique, when)
        finding = f"texts have {found.lengths}: {found.certain:,} never preempt each other as they are"
        return _unfit(technique, when, finding)
    finding = f"without them only {sure.clients:,} never preempt each other: {_rate(sure, found.base)}"
    case = found.cases.get("bounded")
    if case is None:
        if found.bounds:
            return _untold(technique, when)
        return _unfit(technique, when, f"{finding}; {_why_not_bounded(found)}")
    beside = f"{case.rate_gain(found.base):+.0%} beside batches that are not predictable"
    finding = f"{finding}; with {BUDGET:,} tokens kept of each text, {_change(case, sure)}, and {beside}"
    return Advice(technique, when, _gain(case, sure), finding)


def _encoder(_: Findings) -> Advice:
    finding = "this model is a decoder; encoders are not served"
    return _unfit("coarser schemes", "the model is an encoder", finding)


def _unfit(technique: str, when: str, finding: str, *, offered: bool = False) -> Advice:
    return Advice(technique, when, "does not apply", finding, offered=offered)


def _unshared(found: Findings, technique: str, when: str, finding: str, *, offered: bool = False) -> Advice:
    """Of what shared beginnings are for there was no run: for want of requests, or of such beginnings."""
    if found.load.shares:
        return _untold(technique, when, offered=offered)
    return _unfit(technique, when, finding, offered=offered)


def _untold(technique: str, when: str, *, offered: bool = False) -> Advice:
    """What a longer load would tell."""
    return Advice(technique, when, "cannot be told", _TOO_FEW, offered=offered)


def _flagged(technique: str, when: str, finding: str, flag: str, gain: float, least: float = _WORTH_A_FLAG) -> Advice:
    """What a flag sets: to be pasted if it gives so much."""
    if gain >= least:
        return Advice(technique, when, "on", finding, flag, offered=True)
    return Advice(technique, when, "little gain", finding, offered=True)


def _gain(case: Case, base: Case) -> Verdict:
    """Whether more are served. More that only wait for each other would be no gain."""
    return "would help" if case.rate_gain(base) >= MUCH else "little gain"


def _change(case: Case, base: Case) -> str:
    same = case.clients == base.clients
    places = "as many run at once" if same else f"{case.clients:,} run at once instead of {base.clients:,}"
    return f"{places}, {_rate(case, base)}"


def _rate(case: Case, base: Case) -> str:
    return f"{case.outcome.rate:.3g} requests/s instead of {base.outcome.rate:.3g} ({case.rate_gain(base):+.0%})"


def _hits(case: Case, base: Case) -> str:
    return f"{case.outcome.hits:.1%} of prompt tokens found instead of {base.outcome.hits:.1%}"


def _why_not_bounded(found: Findings) -> str:
    if found.model.windows:
        return "this model's sliding windows bound them"
    return f"texts have {found.lengths}; tried from {LONG:,} on, keeping {BUDGET:,}"
