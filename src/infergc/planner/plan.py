"""A plan: how many requests fit, how fast they go, what holds them back, and what to switch on."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from infergc.config import ConfigError, engine_config
from infergc.heap.groups import split_budget
from infergc.planner.advice import Advice, Findings, advise
from infergc.planner.bottleneck import bottleneck, gains
from infergc.planner.cases import Case, Cases
from infergc.planner.load import Load
from infergc.planner.machine import Machine
from infergc.planner.memory import Memory, written
from infergc.planner.probe import MOST_SEQS, PREEMPTED, Engine, Outcome, Prober
from infergc.planner.search import most_clients
from infergc.planner.targets import Allowed, Targets, allowed
from infergc.sim.geometry import Geometry
from infergc.units import format_bytes

_WAVES = 6  # requests of a recorded load for each that fits: three where twice as many fit
_FEWEST, _MOST = 200, 1000  # of them
USUAL = 0.8  # of the rate flat out: where a server is run that is to answer soon


@dataclass(frozen=True, slots=True)
class Question:
    """What is planned.

    Attributes:
        model: whose KV it is.
        served_as: what ``infergc serve`` is given for it.
        machine: that computes.
        memory: that there is.
        load: that comes.
        targets: that are to be kept.
        settings: of the engine, fields of ``EngineConfig``.
    """

    model: Geometry
    served_as: str
    machine: Machine
    memory: Memory
    load: Load
    targets: Targets = field(default_factory=Targets)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer.

    Attributes:
        question: that was asked.
        pool_tokens: that the pool holds.
        certain: requests of the longest kind that the pool holds whole: never preempted, whatever comes.
        base: at its full load: the most requests at a time of which hardly any are preempted.
        short: whether the load has too few requests to fill so many places again and again.
        usual: the same engine at ``USUAL`` of that rate, requests coming by chance or in the load's own rhythm.
        allowed: what the targets allow; None without targets.
        gains: resource → requests a second more with twice as much of it.
        bottleneck: the resource that gives most.
        cases: what else was tried.
        advice: the decision tree.
        runs: simulations that it took.
    """

    question: Question
    pool_tokens: int
    certain: int
    base: Case
    short: bool
    usual: Outcome
    allowed: Allowed | None
    gains: dict[str, float]
    bottleneck: str
    cases: dict[str, Case]
    advice: list[Advice]
    runs: int

    @property
    def places(self) -> int:
        """Sequences that the engine should run at most: what fits, or what the targets allow."""
        if self.allowed is not None and self.allowed.rate:
            return self.allowed.outcome.most_running
        return min(MOST_SEQS, self.base.clients * self.question.load.choices)

    @property
    def command(self) -> str:
        """To paste. Whatever else the advice sets stands in it too."""
        settings = self.question.settings
        flags = [
            f"--kv-cache-memory {written(self.question.memory.kv)}",
            f"--max-num-seqs {self.places}",
            *(f"--{name.replace('_', '-')} {value}" for name, value in settings.items()),
            *(one.flag for one in self.advice if one.flag and "--max-num-seqs" not in one.flag),
        ]
        return " ".join(["infergc serve", shlex.quote(self.question.served_as), *flags])

    def plain(self) -> dict[str, Any]:
        """For JSON; seconds, bytes, tokens and shares, as the fields are documented."""
        question = self.question
        return {
            "model": question.model.name,
            "device": question.machine.name,
            "load": question.load.words,
            "own_rate": question.load.own_rate,
            "memory": asdict(question.memory),
            "pool_tokens": self.pool_tokens,
            "targets": asdict(question.targets),
            "concurrency": self.base.clients,
            "certain_concurrency": self.certain,
            "load_is_short": self.short,
            "max_preempted": PREEMPTED,
            "flat_out": asdict(self.base.outcome),
            "usual_share": USUAL,
            "usual": asdict(self.usual),
            "within_targets": None if self.allowed is None else asdict(self.allowed),
            "bottleneck": self.bottleneck,
            "gains_when_doubled": self.gains,
            "what_if": [asdict(case) for case in self.cases.values()],
            "advice": [asdict(one) for one in self.advice],
            "command": self.command,
            "runs": self.runs,
        }


def make_plan(question: Question, progress: Callable[[int], None] = lambda _: None) -> Plan:
    """Simulate what it takes to answer.

    Args:
        question: that is asked.
        progress: told how many simulations are over.

    Raises:
        ConfigError: the pool does not hold one request, or a setting is wrong; the message names the flag.
    """
    engine = Engine(question.model, question.machine, question.memory.kv, question.settings)
    pool_tokens, certain = _pool(question)
    prober = Prober(question.load, progress)
    most = len(question.load.requests) if question.load.recorded else MOST_SEQS
    most = min(most, MOST_SEQS // question.load.choices)
    base = _base(prober, engine, most, pool_tokens)
    places = min(MOST_SEQS, base.clients * question.load.choices)
    usual = prober.at_rate(engine, USUAL * base.outcome.rate, places, base.outcome.rate)
    within = allowed(prober, engine, question.targets, places, base.outcome.rate) if question.targets else None
    cases = Cases(prober, engine, base, most).all()
    gained = gains(base, cases)
    return Plan(
        question=question,
        pool_tokens=pool_tokens,
        certain=certain,
        base=base,
        short=question.load.recorded and 2 * base.clients > len(question.load.requests),
        usual=usual,
        allowed=within,
        gains=gained,
        bottleneck=bottleneck(gained),
        cases=cases,
        advice=advise(Findings(question.load, base, cases, certain)),
        runs=prober.runs,
    )


def _base(prober: Prober, engine: Engine, most: int, pool_tokens: int) -> Case:
    """The most that fit. A recorded load is run again with as many requests as all that it is compared with."""
    found = most_clients(prober, engine, int(pool_tokens / prober.load.lengths.mean()), most)
    if found is None:
        raise ConfigError("--kv-cache-memory: not even one request at a time runs without being preempted")
    if not prober.load.recorded:
        return Case("asked", "as asked", *found)
    prober.count = min(len(prober.load.requests), max(_FEWEST, min(_MOST, _WAVES * found[0])))
    return Case("asked", "as asked", found[0], prober.flat_out(engine, found[0]))


def _pool(question: Question) -> tuple[int, int]:
    """Tokens that the pool holds, and how many of the longest requests."""
    config = engine_config(model=".", kv_cache_memory=question.memory.kv, **question.settings)
    groups = question.model.facts(config.block_size).groups
    bundle = sum(group.page_bytes for group in groups)
    longest = question.load.pages(config.block_size)[1]
    if question.memory.kv < longest * bundle:
        flag = "--kv-cache-memory" if question.memory.total is None else "--memory"
        raise ConfigError(
            f"{flag}: {format_bytes(question.memory.kv)} are left for KV, and the longest request takes "
            f"{format_bytes(longest * bundle)}"
        )
    pages = min(group.capacity for group in split_budget(groups, question.memory.kv))
    return pages * config.block_size, pages // longest
