"""The ``infergc`` command."""

import errno
import os
import sys
from typing import Any

import click

from infergc import __version__
from infergc.cli.bench.group import bench
from infergc.cli.chat import chat
from infergc.cli.evaluate.command import evaluate
from infergc.cli.failures import StartFailure
from infergc.cli.generate import generate
from infergc.cli.heap.group import heap
from infergc.cli.plan import plan
from infergc.cli.serve import serve
from infergc.cli.simulate.command import simulate


class _Main(click.Group):
    """Fails in a line where its output cannot be written; of a closed pipe click takes care."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - what is left to write must go somewhere
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            raise StartFailure(f"cannot write the output: {error.strerror}") from None


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="infergc")
def main() -> None:
    """Infer-GC: LLM inference whose KV cache is a garbage-collected heap."""


main.add_command(serve)
main.add_command(generate)
main.add_command(chat)
main.add_command(plan)
main.add_command(bench)
main.add_command(evaluate)
main.add_command(simulate)
main.add_command(heap)
