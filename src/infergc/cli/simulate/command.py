"""``infergc simulate``: what memory policies do with a workload, in simulated time."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infergc.bench.json_file import cannot_write
from infergc.cli.bench.json_option import json_option, write_told
from infergc.cli.engine_options import some_engine_options
from infergc.cli.failures import StartFailure
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.simulate.options import (
    check_drawn,
    check_plot,
    check_room,
    check_untimed,
    how_long,
    kv_bytes,
    listed,
    policies,
    requests_of,
    slowed,
)
from infergc.config import ConfigError

if TYPE_CHECKING:
    from infergc.sim.requests import TraceRequest
    from infergc.sim.simulate import Run, Setup

_WORKLOAD = "Workload"
_SIMULATED = "What is simulated"
_OUTPUT = "Output"
_ENGINE = (
    "dtype", "host_cache_memory", "tiering_policy", "block_size", "enable_prefix_caching", "compaction",
    "compaction_budget", "max_num_seqs", "max_num_batched_tokens", "scheduling_policy", "admission_policy",
    "preemption", "pipeline_depth", "gc", "gc_minor_pages", "gc_major_pages", "gc_watermark", "gc_target_free",
    "gc_young_steps", "gc_survivor_steps", "gc_tenured_steps", "max_sessions",
)  # fmt: skip


@click.command(cls=GroupedCommand, short_help="Try memory policies on a trace, without a model.")
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@option(_SIMULATED, "--model", default="llama-3-8b", metavar="NAME|PATH",
        help="Model by name, or a config.json, or a directory with one: its shape alone matters.")  # fmt: skip
@option(_SIMULATED, "--device", default="a100-80g", metavar="NAME|FILE",
        help="Device by name, or a file of infergc bench calibrate.")  # fmt: skip
@option(_SIMULATED, "--policy", "names", default=("generational",), multiple=True, metavar="NAME", callback=policies,
        help="Retention policies, with commas between or given several times: a run for each. belady, the bound "
        "that knows the future, with --replay cache alone.")  # fmt: skip
@option(_SIMULATED, "--capacity", "capacities", multiple=True, metavar="TOKENS|BYTES", callback=listed,
        help="Pools: digits alone are tokens (512000), with a unit bytes (20GiB); a run for each. Default: what the "
        "device has left.")  # fmt: skip
@option(_SIMULATED, "--replay", default="served", type=click.Choice(["served", "cache"]),
        help="served: in time, with live memory. cache: prompts one by one, to compare retention alone.")  # fmt: skip
@option(_WORKLOAD, "--requests", "most", type=click.IntRange(min=1), metavar="N", help="Only the first so many.")
@option(_WORKLOAD, "--slower", default=1.0, type=click.FloatRange(0, 1e6), metavar="FACTOR",
        help="Let requests come so many times as late; 0: all at once.")  # fmt: skip
@option(_WORKLOAD, "--rate", type=float, metavar="R", help="Requests a second, where a trace has no times.")
@option(_WORKLOAD, "--trace-seed", "seed", type=click.IntRange(min=0), help="Draws those times. Default: 0.")
@option(_WORKLOAD, "--block-tokens", type=int, metavar="N",
        help="Tokens in a block of hash_ids. Default: found from the rows.")  # fmt: skip
@option(_WORKLOAD, "--skip-bad-rows", is_flag=True, help="Leave out rows that cannot be used, and say which.")
@option(_OUTPUT, "--plot", "plot_file", metavar="FILE", type=click.Path(path_type=Path),
        help="Draw memory over time by state and generation: .png, .svg or .pdf.")  # fmt: skip
@json_option(_OUTPUT)
@some_engine_options(*_ENGINE, max_num_seqs=256, max_num_batched_tokens=8192)
def simulate(traces: tuple[str, ...], json_file: Path | None, plot_file: Path | None, **options: Any) -> None:
    """Run each TRACE through the engine's own scheduler and heap, under a clock instead of a model.

    TRACE is a file, plain or gzip: JSON lines with hash_ids (Mooncake), ServeGen's JSON lines, Azure's CSV, or CSV of
    lengths alone. Or it is a workload that is made up: chat, system-prompts, rag, agents or beams, with its knobs:
    chat:requests=500,rate=2,seed=1. See docs/traces.md.
    """
    if plot_file is not None:
        check_plot(plot_file, json_file)
    if options["replay"] == "cache":
        check_untimed(options["rate"], options["slower"])
    check_drawn(options["rate"], options["seed"])
    engine = {name: options.pop(name) for name in _ENGINE}
    options["sampled"] = plot_file is not None
    runs: list[tuple[dict[str, Any], Run]] = []
    for trace in traces:
        for run in _runs(trace, _requests(trace, options), engine, options):
            runs.append(run)
            if json_file is not None:  # after each: what is over stays, whatever becomes of the others
                write_told(json_file, {"runs": [figures for figures, _ in runs]})
    _report(runs, plot_file)


def _requests(trace: str, options: dict[str, Any]) -> "list[TraceRequest]":
    from infergc.sim.transform import first  # noqa: PLC0415 - heavy

    told = {"block_tokens": options["block_tokens"], "rate": options["rate"], "seed": options["seed"] or 0}
    requests, bad = requests_of(trace, told, skip_bad_rows=options["skip_bad_rows"])
    for row in bad:
        click.echo(f"{trace}: left out {row}", err=True)
    requests = slowed(trace, requests, options["slower"])
    requests = requests if options["most"] is None else first(requests, options["most"])
    if options["replay"] == "served" and (warning := how_long(trace, requests)):
        click.echo(warning, err=True)
    return requests


def _runs(
    trace: str, requests: "list[TraceRequest]", engine: dict[str, Any], options: dict[str, Any]
) -> "Iterator[tuple[dict[str, Any], Run]]":
    """A run for each capacity and policy, with its figures."""
    from infergc.llm.progress import progress_bar  # noqa: PLC0415 - heavy
    from infergc.sim.simulate import simulate as run_one  # noqa: PLC0415

    try:
        for setup in _setups(engine, options):
            label = f"{Path(trace).name if Path(trace).exists() else trace}, {setup.policy}"
            with progress_bar(label, len(requests), show=True) as advance:
                run = run_one(setup, requests, advance, sampled=options["sampled"])
            said = {"trace": label.rpartition(", ")[0], **_said(setup, options), "kv_bytes": setup.kv_bytes}
            yield {**said, **run.figures}, run
    except ConfigError as error:
        raise click.UsageError(_here(str(error))) from None


def _said(setup: "Setup", options: dict[str, Any]) -> dict[str, Any]:
    """What was simulated."""
    return {
        "replay": setup.replay,
        "model": setup.model.name,
        "device": options["device"],
        "slower": options["slower"],
        "settings": {**setup.settings, "dtype": setup.model.dtype},
    }


def _here(message: str) -> str:
    """The engine's words, with the flag that this command has in place of its own."""
    said = message.replace("--kv-cache-memory", "--capacity")
    return said if said == message else f"{said}. Digits alone are tokens; with a unit they are bytes, as 20k is 20,000"


def _setups(engine: dict[str, Any], options: dict[str, Any]) -> "list[Setup]":
    from infergc.sim.catalog import geometry_named  # noqa: PLC0415
    from infergc.sim.simulate import Setup  # noqa: PLC0415
    from infergc.sim.targets import cost_on, kv_room  # noqa: PLC0415

    model, device = geometry_named(options["model"]).run_in(engine["dtype"]), options["device"]
    cost = cost_on(device, model)
    sizes = [kv_bytes(text, model) for text in options["capacities"]] or [kv_room(device, model)]
    for size in sizes:
        check_room(size, model)
    base = Setup(model, cost, 0, replay=options["replay"], settings=engine)
    return [replace(base, kv_bytes=size, policy=policy) for size, policy in product(sizes, options["names"])]


def _report(runs: "list[tuple[dict[str, Any], Run]]", plot_file: Path | None) -> None:
    """Files first: whoever reads the tables may stop reading."""
    from infergc.cli.simulate.table import shortfalls, show  # noqa: PLC0415 - heavy

    if plot_file is not None:
        _plot(runs, plot_file)
    show([figures for figures, _ in runs])
    for line in dict.fromkeys(line for figures, _ in runs for line in shortfalls(figures)):
        click.echo(line, err=True)
    if all(figures["refused"] == figures["requests"] for figures, _ in runs):
        raise StartFailure("no request could run; give a larger --capacity")


def _plot(runs: "list[tuple[dict[str, Any], Run]]", file: Path) -> None:
    from infergc.cli.simulate.plot import plot  # noqa: PLC0415

    try:
        plot(file, [(figures, run.clock.samples) for figures, run in runs])
    except OSError as error:
        raise StartFailure(f"--plot: {cannot_write(file, error)}") from None
