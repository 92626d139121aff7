"""A progress bar on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]
Begin = Callable[[str, int], Advance]  # a label, and of how many items


@contextmanager
def progress_bar(label: str, total: int, *, show: bool) -> Iterator[Advance]:
    """A bar for ``total`` items while the block runs, where stderr is a terminal; gives how to advance it."""
    with progress_bars(show=show) as begin:
        yield begin(label, total)


@contextmanager
def progress_bars(*, show: bool) -> Iterator[Begin]:
    """A bar for what is done one after the other, where stderr is a terminal; gives how to begin the next."""
    from rich.console import Console  # noqa: PLC0415 - importing it takes longer than all of ours
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, disable=not (show and console.is_terminal)) as progress:
        task = progress.add_task("")

        def begin(label: str, total: int) -> Advance:
            progress.reset(task, description=label, total=total)
            return lambda count: progress.advance(task, count)

        yield begin
