"""``infergc heap verify``: have a running server recount its heap."""

from urllib.parse import SplitResult

import click

from infergc.cli.failures import StartFailure
from infergc.cli.grouped import GroupedCommand
from infergc.cli.heap.remote import call, server_options
from infergc.wording import counted


@click.command(cls=GroupedCommand, short_help="Recount every reference.")
@server_options
def verify(url: SplitResult, admin_key: str | None) -> None:
    """Recount every reference from the roots, mend what is wrong, and check the heap's laws.

    The exit code is 1 if something was found. Cycles that the collector had still to free are no fault: they are freed.
    """
    answer = call("POST", url, "/v1/kv/heap/verify", admin_key)
    if freed := answer["freed_objects"]:
        click.echo(f"Freed {counted(freed, 'object')} in cycles that nothing outside held.")
    if found := answer["found"]:
        raise StartFailure(f"found: {found}")
    click.echo("All counts are true, and all laws hold.")
