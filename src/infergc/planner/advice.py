"""What to switch on for a bottleneck: the survey's decision tree, each branch with the figure that decides it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infergc.planner.cases import BUDGET, TIER, Case
from infergc.planner.load import Load
from infergc.planner.probe import PREEMPTED

Verdict = Literal["on", "would help", "little gain", "does not apply"]

MUCH = 0.05  # of the rate, or of those that run: less is no reason to change anything
_HITS = 0.01  # of the prompts' tokens


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
        load: that is planned for.
        base: the engine that was asked for, at its full load.
        cases: what else was tried, by name.
        certain: requests that never preempt each other, however long each is.
    """

    load: Load
    base: Case
    cases: Mapping[str, Case]
    certain: int


def advise(found: Findings) -> list[Advice]:
    """All branches of the tree, in its order; those that do not apply say so."""
    branches = (_quantise, _evict, _offload, _restore, _share, _order, _persist, _rebuild, _predictable, _encoder)
    return [branch(found) for branch in branches]


def _quantise(found: Findings) -> Advice:
    technique, when = "quantised KV", "KV storage is the limit"
    case = found.cases.get("half_kv")
    if case is None:
        return Advice(technique, when, "does not apply", "it could not be simulated")
    return Advice(technique, when, _gain(case, found.base), f"8 bits: {_change(case, found.base)}")


def _evict(found: Findings) -> Advice:
    technique, when = "eviction within a text", "contexts are long"
    case = found.cases.get("bounded")
    if case is None:
        return Advice(technique, when, "does not apply", f"texts have {_mean_length(found):,} tokens on the average")
    finding = f"{BUDGET:,} tokens kept of each text: {_change(case, found.base)}"
    return Advice(technique, when, _gain(case, found.base), finding)


def _offload(found: Findings) -> Advice:
    technique, when = "offload to host memory", "contexts are long and come again"
    case = found.cases.get("large_cache")
    if case is None:
        return Advice(technique, when, "does not apply", "no prompts begin alike: what is kept is not asked for again")
    gained = case.outcome.hits - found.base.outcome.hits
    finding = (
        f"a cache of {TIER} times the size would find {case.outcome.hits:.1%} of prompt tokens instead of "
        f"{found.base.outcome.hits:.1%}: no tier of that size can do better"
    )
    return Advice(technique, when, "would help" if gained >= MUCH else "little gain", finding)


def _restore(found: Findings) -> Advice:
    technique, when = "asynchronous restore", "work is preempted"
    cap = "a cap on what runs, in place of asynchronous restore"
    case, flag = found.cases.get("crowd"), f"--max-num-seqs {_places(found)}"
    if case is None:
        return Advice(technique, when, "does not apply", "all of the load fits at once")
    finding = (
        f"with {case.clients} let in at a time, {case.outcome.preempted:.1%} are preempted and "
        f"{case.outcome.recomputed:.1%} of the tokens computed twice; with {found.base.clients} next to none"
    )
    if case.outcome.preempted <= PREEMPTED:
        return Advice(technique, when, "does not apply", finding)
    return Advice(cap, when, "on", finding, flag, offered=True)


def _share(found: Findings) -> Advice:
    technique, when, flag = "sharing by prefix", "prompts begin alike", "--enable-prefix-caching"
    case = found.cases.get("no_prefix_cache")
    if case is None:
        return Advice(technique, when, "does not apply", "no prompts begin alike in this load", offered=True)
    finding = f"{found.base.outcome.hits:.1%} of prompt tokens found: with that {_change(found.base, case)}"
    verdict: Verdict = "on" if found.base.outcome.hits > _HITS else "little gain"
    return Advice(technique, when, verdict, finding, flag if verdict == "on" else "", offered=True)


def _order(found: Findings) -> Advice:
    technique, when = "retention by last use alone", "what comes again comes soon"
    case = found.cases.get("lru")
    if case is None:
        return Advice(technique, when, "does not apply", "nothing that is shared is evicted", offered=True)
    gained = case.outcome.hits - found.base.outcome.hits
    finding = f"finds {case.outcome.hits:.1%} of prompt tokens, generations {found.base.outcome.hits:.1%}"
    better = gained >= _HITS
    flag = "--retention-policy lru" if better else ""
    return Advice(technique, when, "on" if better else "little gain", finding, flag, offered=True)


def _persist(found: Findings) -> Advice:
    technique, when = "persistence of prefixes", "prompts begin alike after a restart"
    if not found.cases.get("no_prefix_cache") or found.base.outcome.hits <= _HITS:
        return Advice(technique, when, "does not apply", "hardly any prompt tokens are found in the cache")
    finding = f"a restart loses what finds {found.base.outcome.hits:.1%} of prompt tokens, until it is warm again"
    return Advice(technique, when, "would help", finding)


def _rebuild(found: Findings) -> Advice:
    technique, when = "selective reconstruction", "prompts share pieces that do not stand first"
    said = "lengths name no pieces" if not found.load.shares else "the load names beginnings only"
    return Advice(technique, when, "does not apply", f"{said}: what it would gain cannot be told")


def _predictable(found: Findings) -> Advice:
    technique, when = "constrained caches", "batches must be predictable"
    longest, mean = int(found.load.lengths.max()), _mean_length(found)
    finding = f"texts have {mean:,} tokens on the average and {longest:,} at most"
    if longest <= 1.1 * mean:
        return Advice(technique, when, "does not apply", f"{finding}: they are predictable as they are")
    finding = f"{finding}: whatever comes, only {found.certain} at a time never preempt each other"
    case = found.cases.get("bounded")
    if case is not None:
        finding = f"{finding}, and {case.clients} with {BUDGET:,} tokens kept of each"
    return Advice(technique, when, "would help", finding)


def _encoder(_: Findings) -> Advice:
    finding = "this model is a decoder; encoders are not served"
    return Advice("coarser schemes", "the model is an encoder", "does not apply", finding)


def _gain(case: Case, base: Case) -> Verdict:
    """Whether more run at a time, or more are served."""
    more = case.clients / base.clients - 1
    return "would help" if max(more, case.rate_gain(base)) >= MUCH else "little gain"


def _change(case: Case, base: Case) -> str:
    more = case.clients / base.clients - 1
    places = "as many at a time" if abs(more) < MUCH else f"{case.clients} at a time instead of {base.clients}"
    rates = f"{case.outcome.rate:.3g} requests/s instead of {base.outcome.rate:.3g} ({case.rate_gain(base):+.0%})"
    return f"{places}, {rates}"


def _places(found: Findings) -> int:
    """Sequences that these clients' requests are."""
    return found.base.clients * found.load.choices


def _mean_length(found: Findings) -> int:
    return int(found.load.lengths.mean())
