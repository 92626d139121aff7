"""The three scenarios from beginning to end, and the bars that they are held against."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infergc.bench.scenarios.cells import ROOM, Bench, Cell, Tell, plain_pool
from infergc.bench.scenarios.outcome import NO_LIMITS
from infergc.bench.scenarios.smallest import COARSE, THOROUGH, Smallest
from infergc.bench.scenarios.systems import (
    BASELINES,
    DEVICE,
    DOUBLING,
    MODEL,
    OURS,
    PAGED,
    WITHOUT,
    Load,
    OnEngine,
    System,
)
from infergc.bench.scenarios.workloads import (
    JUDGED_SHARE,
    LOADED,
    SHARES,
    Sizes,
    Traces,
    behind,
    concurrent,
    long_contexts,
    slowed,
    system_tokens,
    together,
)

SCENARIOS = (1, 2, 3)
THROUGHPUT_BAR = -2.0  # per cent
_PLAIN_PROMPT = 1024  # tokens of a system prompt as they often are, run beside the sweep


def campaign(
    scenarios: Sequence[int], traces: Traces, sizes: Sizes, peers: Sequence[System], tell: Tell
) -> dict[str, Any]:
    """Run scenarios.

    Args:
        scenarios: of 1, 2 and 3.
        traces: what workloads are made of.
        sizes: of the workloads.
        peers: systems beside ours and the baselines.
        tell: told of every run.

    Returns:
        Plain data: ``model``, ``device``, ``kv_bytes`` that it has, ``sizes``, ``scenarios``; see docs/scenarios.md.
        A bar's ``met`` is None where ``sizes`` are quick: such figures cannot be held against it.

    Raises:
        ConfigError: a trace cannot be used.
    """
    run = {1: _long, 2: _many, 3: _shared}
    found = [run[number](traces, sizes, peers, tell) for number in scenarios]
    if sizes.quick:
        _spare(found)
    setting = {"model": MODEL.name, "device": DEVICE.name, "kv_bytes": ROOM, "sizes": asdict(sizes)}
    return {**setting, "scenarios": found}


def _spare(scenarios: Sequence[dict[str, Any]]) -> None:
    """No verdict: the bars are of the whole workloads."""
    for scenario in scenarios:
        for bar in scenario["bars"]:
            bar["met"] = None


def _long(traces: Traces, sizes: Sizes, peers: Sequence[System], tell: Tell) -> dict[str, Any]:
    recorded = long_contexts(traces, sizes)
    saturated = PAGED.run(together(recorded), ROOM, NO_LIMITS, tell("1: saturated rate", len(recorded.requests)))
    rate = saturated.finished / saturated.seconds
    load = slowed(recorded, rate)
    said = {"saturated_rate": rate, "offered_rate": LOADED * rate, **_said(load)}
    return _scenario(1, "Long contexts", said, _compared(_bench("1", load, sizes, tell), peers, DOUBLING), 37.8)


def _many(traces: Traces, sizes: Sizes, peers: Sequence[System], tell: Tell) -> dict[str, Any]:
    load = concurrent(traces, sizes)
    compared = _compared(_bench("2", load, sizes, tell), peers, DOUBLING)
    return _scenario(2, f"{sizes.seats} concurrent", _said(load), compared, 37.6)


def _shared(traces: Traces, sizes: Sizes, peers: Sequence[System], tell: Tell) -> dict[str, Any]:
    tails = concurrent(traces, sizes)
    system = system_tokens(tails.requests, JUDGED_SHARE)
    load = behind(tails, system)
    compared = _compared(_bench("3", load, sizes, tell), peers, PAGED)
    said = {"share": JUDGED_SHARE, "system_tokens": system, **_said(load)}
    found = _scenario(3, f"{sizes.seats} with one system prompt", said, compared, 52.9)
    shares = SHARES[::9] if sizes.quick else SHARES
    found["sweep"] = [_point(tails, system_tokens(tails.requests, share), tell) for share in shares]
    found["sweep"].append(_point(tails, _PLAIN_PROMPT, tell))
    found["sweep"].sort(key=lambda point: point["system_tokens"])
    return found


def _bench(label: str, load: Load, sizes: Sizes, tell: Tell) -> Bench:
    return Bench(label, load, tell, COARSE if sizes.quick else THOROUGH)


def _point(tails: Load, system: int, tell: Tell) -> dict[str, Any]:
    """One share of the sweep: what each holds with ample memory."""
    load = behind(tails, system)
    bench = Bench(f"3, {system} tokens shared", load, tell)
    prompts = sum(request.input_len for request in load.requests)
    share = 100 * system * len(load.requests) / prompts
    cells = [bench.ample(each).figures for each in (*BASELINES, OURS)]
    return {"share": share, "system_tokens": system, "cells": cells}


def _said(load: Load) -> dict[str, Any]:
    """A workload in numbers."""
    count = len(load.requests)
    return {
        "requests": count,
        "concurrent": load.seats,
        "batched_tokens": load.batch,
        "mean_input": sum(request.input_len for request in load.requests) / count,
        "mean_output": load.output_tokens / count,
        "longest": load.longest,
        "last_arrival": load.requests[-1].arrival,
    }


@dataclass(frozen=True, slots=True)
class _Compared:
    """All systems under one workload.

    Attributes:
        cells: of baselines, peers and ours, ours last.
        without: ours without one technique each.
        against: the baseline that ours is held against.
        matched: the smallest pool in which ours serves as fast as that baseline with ample memory.
    """

    cells: list[Cell]
    without: list[Cell]
    against: Cell
    matched: Smallest


def _compared(bench: Bench, peers: Sequence[System], baseline: System) -> _Compared:
    cells: list[Cell] = []
    near = None
    for system in (*BASELINES, *peers, OURS):
        paged = isinstance(system, OnEngine)
        cells.append(bench.whole(system, near if paged else None))
        if paged and (smallest := cells[-1].smallest) is not None:
            near = smallest.pool
    assert near is not None, "ours comes last"
    against = next(cell for cell in cells if cell.system is baseline)
    matched = bench.matching(OURS, against.ample, near)
    return _Compared(cells, [bench.searched(system, near) for system in WITHOUT], against, matched)


def _scenario(number: int, title: str, workload: dict[str, Any], compared: _Compared, bar: float) -> dict[str, Any]:
    cells, against = [cell.figures for cell in compared.cells], compared.against.figures
    below = 100 * (1 - compared.matched.pool / against["smallest"]["pool_bytes"])
    return {
        "scenario": number,
        "title": title,
        "workload": workload,
        "cells": cells,
        "without": [cell.figures for cell in compared.without],
        "matched": {"against": compared.against.system.name, "below": below, **plain_pool(compared.matched)},
        "bars": bars(cells[-1], against, bar),
    }


def bars(ours: dict[str, Any], other: dict[str, Any], wanted: float) -> list[dict[str, Any]]:
    """What the mission asks for beside what is measured, in per cent.

    Args:
        ours: figures of a cell.
        other: of the baseline.
        wanted: how far below it ours shall be.
    """
    saved = {
        "peak bytes": 100 * (1 - ours["ample"]["peak_bytes"] / other["ample"]["peak_bytes"]),
        "smallest pool": 100 * (1 - ours["smallest"]["pool_bytes"] / other["smallest"]["pool_bytes"]),
    }
    faster = 100 * (ours["smallest"]["throughput"] / other["ample"]["throughput"] - 1)
    rows = [_bar(f"{figure} below {other['system']}", value, wanted) for figure, value in saved.items()]
    return [
        *rows,
        _bar(f"throughput in the smallest pool over {other['system']} in an ample one", faster, THROUGHPUT_BAR),
    ]


def _bar(figure: str, measured: float, wanted: float) -> dict[str, Any]:
    return {"figure": figure, "wanted": wanted, "measured": measured, "met": measured >= wanted}
