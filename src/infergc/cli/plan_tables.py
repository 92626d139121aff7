"""A plan as tables."""

from collections.abc import Iterator
from typing import get_args

from rich.table import Table

from infergc.planner.advice import MUCH, Advice, Verdict
from infergc.planner.plan import USUAL, Plan
from infergc.planner.probe import Outcome, Spread
from infergc.planner.targets import Allowed, Targets
from infergc.units import format_bytes, format_seconds
from infergc.wording import counted

_Row = tuple[str, str]


def figures_table(found: Plan) -> Table:
    """How many fit, how fast they go, and what holds them back."""
    question = found.question
    model = question.model
    table = Table(
        show_header=False, title=f"{model.name} in {model.dtype} on {question.machine.name}: {question.load.words}"
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for rows in (_memory(found), _flat_out(found), _within(found), _limits(found)):
        for row in rows:
            table.add_row(*row)
        table.add_section()
    return table


def advice_table(found: Plan) -> Table:
    """The decision tree: what to switch on, what would help, and what would not."""
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for verdict in get_args(Verdict):
        for one in found.advice:
            if one.verdict == verdict:
                table.add_row(verdict, _sentence(one))
    return table


def _sentence(one: Advice) -> str:
    missing = "" if one.offered or one.verdict == "does not apply" else ". Not in this version"
    flag = f". {one.flag}" if one.flag else ""
    return f"{one.technique}, where {one.when}: {one.finding}{missing}{flag}"


def _memory(found: Plan) -> Iterator[_Row]:
    memory = found.question.memory
    kv = f"{format_bytes(memory.kv)}, {found.pool_tokens:,} tokens"
    if memory.total is None:
        yield "KV pool", kv
        return
    yield "memory", format_bytes(memory.total)
    yield "weights", format_bytes(memory.weights)
    yield "KV pool", kv
    yield "left for activations and libraries", format_bytes(memory.spare or 0)


def _flat_out(found: Plan) -> Iterator[_Row]:
    outcome, clients = found.base.outcome, found.base.clients
    more = ", or more: the load has no more to try" if found.fit_at_least else ""
    yield "requests that fit in memory", f"{found.fit:,} at a time{more}"
    yield "  for certain", f"{found.certain:,}, even if all are as long as the longest"
    yield f"flat out, with {counted(clients, 'client')}", _speed(outcome)
    yield "  run at once", f"{outcome.running:.1f} on the average, {outcome.most_running:,} at most"
    if found.short:
        yield "  beware", _why_short(found)
    elif found.fit > (1 + MUCH) * clients:
        yield "  held back by", "the speed of prompts, not memory: of more clients not all would run at once"
    yield "  preempted", f"{outcome.preempted:.1%}"
    yield "  each token after the first", _spread(outcome.tpot)
    usual = found.usual
    yield f"at {USUAL:.0%} of that rate", f"{usual.running:.1f} run at once on the average"
    yield "  first token", _spread(usual.ttft)
    yield "  each token after it", _spread(usual.tpot)


def _within(found: Plan) -> Iterator[_Row]:
    if found.allowed is None:
        return
    targets = found.question.targets
    if not found.allowed.rate:
        yield f"within {_words(targets)}", _why_none(found.allowed)
        return
    outcome = found.allowed.outcome
    yield f"within {_words(targets)}", f"{found.allowed.rate:.3g} requests/s, {outcome.output_rate:,.0f} tokens/s out"
    yield "  run at once", f"{outcome.running:.1f} on the average, {outcome.most_running} at most"
    yield "  first token", _spread(outcome.ttft)
    yield "  each token after it", _spread(outcome.tpot)


def _limits(found: Plan) -> Iterator[_Row]:
    yield "bottleneck", found.bottleneck
    for resource, gain in found.gains.items():
        yield f"  twice as much {resource}", "cannot be told" if gain is None else f"{gain:+.0%} requests/s"
    half = found.cases.get("half_pool")
    if half is not None:
        yield "  half the KV storage", f"{half.rate_gain(found.base):+.0%} requests/s, {half.clients:,} at once"
    own = found.question.load.own_rate
    if own is not None:
        yield "the load's own rate", f"{own:.3g} requests/s"


def _why_short(found: Plan) -> str:
    load = found.question.load
    few = f"{counted(len(load.requests), 'request')} {'is' if len(load.requests) == 1 else 'are'} too few"
    remedy = "fewer can be told: give less memory, or requests of fewer tokens" if load.cut else "take a longer load"
    return f"{few} to fill so many places again and again, and what filling them takes counts too; {remedy}"


def _speed(outcome: Outcome) -> str:
    tokens = f"{outcome.prompt_rate:,.0f} tokens/s in, {outcome.output_rate:,.0f} tokens/s out"
    return f"{outcome.rate:.3g} requests/s: {tokens}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "none: outputs have one token, or come whole"
    return f"{format_seconds(spread.p50)} at the median, {format_seconds(spread.p90)} at p90"


def _words(targets: Targets) -> str:
    pairs = (("TTFT", targets.ttft), ("TPOT", targets.tpot))
    return ", ".join(f"{name} {format_seconds(most)}" for name, most in pairs if most is not None) + " at p90"


def _why_none(allowed: Allowed) -> str:
    if not allowed.missed:
        return "no rate: requests that come by chance miss the targets however seldom they come"
    found = {"ttft": allowed.outcome.ttft, "tpot": allowed.outcome.tpot}
    parts = [f"{name.upper()} of {_spread(found[name])}" for name in allowed.missed]
    return f"no rate: one request alone has a {', and a '.join(parts)}"
