"""The group of commands about a running server's heap."""

import click

from infergc.cli.heap.diff import diff
from infergc.cli.heap.dump import dump
from infergc.cli.heap.verify import verify


@click.group()
def heap() -> None:
    """Look into the KV heap of a server that was started with --admin-key."""


heap.add_command(dump)
heap.add_command(diff)
heap.add_command(verify)
