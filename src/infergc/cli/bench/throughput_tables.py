"""The report of ``infergc bench throughput`` for a person."""

from rich.console import Console
from rich.table import Table

from infergc.bench.bound import Bound
from infergc.bench.figures import over_bound, percentiles
from infergc.bench.throughput import Report, Split
from infergc.units import format_bytes


def show(report: Report) -> None:
    """Print the report: rounds, and what the bound is and where the rest goes if that was measured."""
    console = Console(highlight=False)
    console.print(_rounds(report))
    low, high = min(report.speeds), max(report.speeds)
    console.print(
        f"Median {report.speed:.1f} output tokens a second ({low:.1f} to {high:.1f}); in {report.dtype}, "
        f"{report.backend} attention; peak memory {format_bytes(report.peak_bytes)}"
    )
    if report.bound is None or report.split is None or report.rates is None:
        return
    console.print(_parts(report.split, report.bound))
    for line in [*_doubts(report, report.bound), *_machine(report)]:
        console.print(line)


def _rounds(report: Report) -> Table:
    load = report.load
    table = Table(
        title=f"{load.requests} request{'s' * (load.requests > 1)}, {load.input_len} in, {load.output_len} out",
        caption="TTFT: time to first token, ITL: between tokens; ms, median and 99th percentile",
    )
    for heading in ("out tok/s", "all tok/s", "steps", "TTFT", "TTFT p99", "ITL", "ITL p99"):
        table.add_column(heading, justify="right")
    table.add_column("digest", no_wrap=True)
    for one, speed in zip(report.rounds, report.speeds, strict=True):
        times = [*_millis(one.first_tokens), *_millis(one.gaps)]
        total = load.tokens / one.seconds
        table.add_row(f"{speed:.1f}", f"{total:.1f}", str(len(one.plans)), *times, one.digest)
    return table


def _millis(times: list[float]) -> list[str]:
    found = percentiles(times)
    return ["–", "–"] if found is None else [f"{1000 * time:.1f}" for time in found]  # noqa: RUF001 - no figure


def _parts(split: Split, least: Bound) -> Table:
    parts = (
        ("matrix products", split.products, least.products),
        ("attention", split.attention, least.prefill + least.decode),
        ("norms, rotation, activation, embedding", split.rowwise, None),
        ("the worker's rest: batches, sampling, calls", split.rest, None),
        ("the worker waits for the engine", split.engine, None),
    )
    whole = sum(seconds for _, seconds, _ in parts)
    table = Table(title="Where the time of the median round goes")
    table.add_column("part")
    for heading in ("seconds", "share", "bound, s"):
        table.add_column(heading, justify="right")
    for name, seconds, bound in (*parts, ("all", whole, least.with_attention)):
        table.add_row(name, f"{seconds:.3f}", f"{seconds / whole:.1%}", "" if bound is None else f"{bound:.3f}")
    return table


def _doubts(report: Report, least: Bound) -> list[str]:
    if report.has_sound_bound:
        return []
    seconds = f"Products alone took {least.products:.3f} s, within a round {report.most_products:.3f} s."
    return [f"The bound is not reliable: the machine was busy while it was measured, twice. {seconds}"]


def _machine(report: Report) -> list[str]:
    assert report.rates is not None
    rates, over = report.rates, over_bound(report)
    took, with_attention = over["over_products"], over["over_products_and_attention"]
    rate, read, weights = rates.matrix_flops / 1e9, rates.read_bytes / 1e9, format_bytes(rates.weight_bytes)
    lines = [
        f"Took {took:.2f} times the matrix products alone with prepacked weights",
        f"Took {with_attention:.2f} times products and attention",
        f"Here: {rate:.0f} GFLOP/s in the fastest product, {read:.1f} GB/s read; a token reads {weights} of weights",
    ]
    if report.load.requests == 1 and report.decode_speed is not None:
        allowed = rates.read_bytes / rates.weight_bytes
        lines.append(
            f"Decode at batch 1: {report.decode_speed:.1f} tokens a second, {over['share_of_weight_reading']:.0%} of "
            f"the {allowed:.1f} that reading the weights once a token allows"
        )
    return lines
