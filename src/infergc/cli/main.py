"""The ``infergc`` command."""

import click

from infergc import __version__
from infergc.cli.bench.group import bench
from infergc.cli.generate import generate
from infergc.cli.heap.group import heap
from infergc.cli.plan import plan
from infergc.cli.serve import serve
from infergc.cli.simulate.command import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="infergc")
def main() -> None:
    """Infer-GC: LLM inference whose KV cache is a garbage-collected heap."""


main.add_command(serve)
main.add_command(generate)
main.add_command(plan)
main.add_command(bench)
main.add_command(simulate)
main.add_command(heap)
