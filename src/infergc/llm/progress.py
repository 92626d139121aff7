"""A progress bar on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


@contextmanager
def progress_bar(label: str, total: int, *, show: bool) -> Iterator[Advance]:
    """A bar for ``total`` items while the block runs, where stderr is a terminal; gives how to advance it."""
    from rich.console import Console  # noqa: PLC0415 - importing it takes longer than all of ours
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, disable=not (show and console.is_terminal)) as progress:
        task = progress.add_task(label, total=total)
        yield lambda count: progress.advance(task, count)
