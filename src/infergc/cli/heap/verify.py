"""``infergc heap verify``: have a running server recount its heap."""

from urllib.parse import SplitResult

import click

from infergc.cli.failures import StartFailure
from infergc.cli.grouped import GroupedCommand
from infergc.cli.heap.remote import call, server_options


@click.command(cls=GroupedCommand, short_help="Recount every reference.")
@server_options
def verify(url: SplitResult, admin_key: str | None) -> None:
    """Recount every reference from the roots, mend what is wrong, and check the heap's laws.

    The exit code is 1 if something was found.
    """
    found = call("POST", url, "/v1/kv/heap/verify", admin_key)["found"]
    if found:
        raise StartFailure(f"found: {found}")
    click.echo("All counts are true, and all laws hold.")
