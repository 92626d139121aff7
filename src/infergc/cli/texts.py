"""A request's texts on standard output: one as it comes; of several the first as it comes and the others after it."""

import sys

import click

from infergc.client import Piece


class Texts:
    """Prints pieces; where there are several texts, each stands under a line that numbers it, ``[1]`` the first.

    Attributes:
        tokens: of all texts.
        ends: why each ended, None while it goes on.
    """

    def __init__(self, count: int) -> None:
        self.tokens = 0
        self.ends: list[str | None] = [None] * count
        self._later: list[list[str]] = [[] for _ in range(count)]  # the first stays empty

    def begin(self) -> None:
        """Announce the first text."""
        self._announce(0)

    def take(self, piece: Piece) -> None:
        """Print a piece, or keep it for the end."""
        self.tokens += len(piece.tokens)
        self.ends[piece.index] = piece.finish_reason
        if piece.index:
            self._later[piece.index].append(piece.text)
        else:
            click.echo(piece.text, nl=False)
            sys.stdout.flush()

    def end(self) -> None:
        """Print what was kept."""
        click.echo()
        for index, parts in enumerate(self._later[1:], 1):
            self._announce(index)
            click.echo("".join(parts))

    def _announce(self, index: int) -> None:
        if len(self.ends) > 1:
            click.echo(f"[{index + 1}]")
