"""``infergc bench compaction``: what moving pages together gains, and what it takes of a step."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infergc.bench.json_file import write_json
from infergc.cli.bench.heap import Sizes
from infergc.cli.bench.json_option import json_option
from infergc.cli.grouped import GroupedCommand, option

if TYPE_CHECKING:
    from infergc.bench.compaction import Row

_POOLS = "Pools"
_COMPACTION = "Compaction"
_MEASUREMENT = "Measurement"


@click.command(cls=GroupedCommand, short_help="What moving pages together gains and takes.")
@option(_POOLS, "--pages", default="10000,100000", type=Sizes(), metavar="N,N,…",
        help="Pages of each pool, 256 to 10000000; a page is 16 tokens.")  # fmt: skip
@option(_COMPACTION, "--budget", default=80, type=click.IntRange(1, 1 << 20), help="Work units a step.")
@option(_COMPACTION, "--sparse", default=0.25, type=click.FloatRange(0, 1),
        help="Share in use up to which a superblock is emptied.")  # fmt: skip
@option(_MEASUREMENT, "--seed", default=0, type=click.IntRange(min=0), help="Draws lengths.")
@json_option(_MEASUREMENT)
def compaction(pages: list[int], budget: int, sparse: float, seed: int, json_file: Path | None) -> None:
    """Age a pool until its free pages lie in pieces, then compact it step by step. No model is needed.

    fragmentation: share of the free pages that lie in superblocks partly in use. whole: superblocks wholly free.
    """
    from infergc.bench.compaction import run  # noqa: PLC0415 - --help must not wait for it
    from infergc.bench.heap import LEAST_PAGES, MOST_PAGES  # noqa: PLC0415
    from infergc.heap.compactor import Compaction  # noqa: PLC0415

    if pages[0] < LEAST_PAGES or pages[-1] > MOST_PAGES:
        wrong = pages[0] if pages[0] < LEAST_PAGES else pages[-1]
        raise click.UsageError(f"--pages {wrong}: at least {LEAST_PAGES} and at most {MOST_PAGES}")
    knobs = Compaction(budget, sparse, fragmentation=0.0, spare=0.0)
    rows: list[Row] = []
    click.echo(f"{'pages':>8} {'held':>5} {'fragmentation':>15} {'whole':>13} {'steps':>6} {'moved':>7} "
               f"{'µs/step, p99, longest':>22} {'look, µs':>8} {'idle, µs':>8}")  # fmt: skip
    for row in run(pages, knobs, seed):
        times = f"{row.median:.0f}, {row.p99:.0f}, {row.longest:.0f}"
        click.echo(f"{row.pages:>8} {row.held:>5.0%} {f'{row.before:.3f} → {row.after:.3f}':>15} "
                   f"{f'{row.whole_before} → {row.whole_after}':>13} {row.steps:>6} {row.moved:>7} "
                   f"{times:>22} {row.longest_look:>8.0f} {row.idle:>8.2f}")  # fmt: skip
        rows.append(row)
    if json_file is not None:
        write_json(json_file, {"times": "microseconds", "rows": [asdict(row) for row in rows]})
