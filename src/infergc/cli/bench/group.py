"""``infergc bench``: measure the engine on this machine."""

import click

from infergc.cli.bench.calibrate import calibrate
from infergc.cli.bench.compaction import compaction
from infergc.cli.bench.concurrency import concurrency
from infergc.cli.bench.control import control
from infergc.cli.bench.heap import heap
from infergc.cli.bench.scenarios import scenarios
from infergc.cli.bench.throughput import throughput


@click.group()
def bench() -> None:
    """Measure the engine on this machine."""


bench.add_command(throughput)
bench.add_command(control)
bench.add_command(heap)
bench.add_command(compaction)
bench.add_command(calibrate)
bench.add_command(scenarios)
bench.add_command(concurrency)
