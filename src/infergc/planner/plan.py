"""A plan: how many requests fit, how fast they go, what holds them back, and what to switch on."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from infergc.config import ConfigError, engine_config
from infergc.planner.advice import Advice, Findings, advise
from infergc.planner.bottleneck import bottleneck, gains
from infergc.planner.cases import Case, Cases
from infergc.planner.load import Load
from infergc.planner.machine import Machine
from infergc.planner.memory import Memory, pool_pages, written
from infergc.planner.probe import MOST_SEQS, PREEMPTED, Engine, Outcome, Prober
from infergc.planner.search import largest_again, most_clients, most_held
from infergc.planner.targets import Allowed, Targets, allowed
from infergc.sim.geometry import Geometry
from infergc.units import format_bytes

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
        fit: requests of this load that the pool holds at once with hardly any preempted, at least ``certain``.
        base: at its full load: as many clients as have their requests run at once. Fewer than fit where answers are
            so short that they end before other prompts are computed.
        fit_at_least: whether more may fit, of which the load has none to try.
        short: whether a run has too few requests to fill so many places again and again: then no rates are compared.
        usual: the same engine at ``USUAL`` of that rate, requests coming by chance or in the load's own rhythm.
        allowed: what the targets allow; None without targets.
        gains: resource → requests a second more with twice as much of it; None where it cannot be told.
        bottleneck: the resource that gives most.
        cases: what else was tried.
        advice: the decision tree.
        places: sequences that the engine should run at most: what runs at once, or what the targets allow; what fits,
            where the load has too few requests to tell.
        runs: simulations that it took.
    """

    question: Question
    pool_tokens: int
    certain: int
    fit: int
    fit_at_least: bool
    base: Case
    short: bool
    usual: Outcome
    allowed: Allowed | None
    gains: dict[str, float | None]
    bottleneck: str
    cases: dict[str, Case]
    advice: list[Advice]
    places: int
    runs: int

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
            "fit": self.fit,
            "fit_at_least": self.fit_at_least,
            "certain": self.certain,
            "run_at_once": self.base.clients,
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
    load = question.load
    engine = Engine(question.model, question.machine, question.memory.kv, question.settings)
    pool_tokens, certain = _pool(question)
    prober = Prober(load, progress)
    whole = load.at_once(len(load.requests)) if load.recorded else MOST_SEQS
    most = min(whole, MOST_SEQS // load.choices)
    guess = int(pool_tokens / load.lengths.mean())
    base = _base(prober, engine, guess, most)
    fit = most_held(prober, engine, max(certain, base.clients), guess, most)
    seqs, rate = min(MOST_SEQS, base.clients * load.choices), base.outcome.rate
    usual = prober.at_rate(engine, USUAL * rate, seqs, rate)
    within = allowed(prober, engine, question.targets, seqs, rate) if question.targets else None
    cases = Cases(prober, engine, base, most).all(certain)
    gained = gains(base, cases, splits=question.machine.splits)
    short = not base.outcome.steady
    places = min(MOST_SEQS, fit * load.choices) if short else seqs
    if within is not None and within.rate and not short:
        places = within.outcome.most_running
    return Plan(
        question=question,
        pool_tokens=pool_tokens,
        certain=certain,
        fit=fit,
        fit_at_least=load.recorded and fit >= whole,
        base=base,
        short=short,
        usual=usual,
        allowed=within,
        gains=gained,
        bottleneck=bottleneck(gained),
        cases=cases,
        advice=advise(Findings(question.model, load, base, cases, certain, places, question.memory.kv)),
        places=places,
        runs=prober.runs,
    )


def _base(prober: Prober, engine: Engine, guess: int, most: int) -> Case:
    """The most that run at once. Of a recorded load, with as many requests as in all that it is compared with."""
    found = most_clients(prober, engine, guess, most)
    if found is not None and prober.load.recorded:
        prober.settle(found[0])
        found = largest_again(prober, engine, found[0])
    if found is None:
        raise ConfigError("--kv-cache-memory: not even one request at a time runs without being preempted")
    return Case("asked", "as asked", *found)


def _pool(question: Question) -> tuple[int, int]:
    """Tokens that the pool holds, and how many of the longest requests."""
    memory = question.memory
    config = engine_config(model=".", kv_cache_memory=memory.kv, **question.settings)
    pages, longest = pool_pages(question.model, memory, config.block_size), question.load.most_pages(config.block_size)
    if pages < longest:
        needed = longest * config.block_size * question.model.kv_bytes_per_token
        raise ConfigError(
            f"{memory.flag}: {format_bytes(memory.kv)} for KV are too little: the longest request takes "
            f"{format_bytes(needed)}; give {format_bytes(needed - memory.kv)} more, or ask for shorter ones"
        )
    return pages * config.block_size, max(1, pages // question.load.most_taken(config.block_size))
