"""``infergc bench heap``: what memory management costs a token."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infergc.bench.json_file import write_json
from infergc.cli.bench.json_option import json_option
from infergc.cli.grouped import GroupedCommand, option

if TYPE_CHECKING:
    from infergc.bench.heap import Row

_POOLS = "Pools"
_MEASUREMENT = "Measurement"
_PAIR, _ALONE = 11, 6  # widths of "99.9 (99.9)" and of one figure


class Sizes(click.ParamType[list[int]]):
    """Whole numbers of 1 and more, separated by commas."""

    name = "sizes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Read them; in ascending order, each once."""
        if isinstance(value, list):
            return value
        try:
            sizes = [int(part) for part in str(value).split(",")]
        except ValueError:
            sizes = [0]
        if min(sizes) < 1:
            self.fail(f"{value!r} is not a list of whole numbers from 1 up, separated by commas", param, ctx)
        return sorted(set(sizes))


@click.command(cls=GroupedCommand, short_help="What memory management costs a token.")
@option(_POOLS, "--pages", default="10000,100000,1000000", type=Sizes(), metavar="N,N,…",
        help="Pages of each pool to measure, 256 to 10000000; a page is 16 tokens.")  # fmt: skip
@option(_POOLS, "--tokens", default="64,512,4096,16384", type=Sizes(), metavar="N,N,…",
        help="Lengths of sequences; the longest is at most an eighth of the smallest pool.")  # fmt: skip
@option(_MEASUREMENT, "--rounds", default=5, type=click.IntRange(min=1), help="Measured rounds of every length.")
@option(_MEASUREMENT, "--seed", default=0, type=click.IntRange(min=0), help="Draws lengths and tokens.")
@json_option(_MEASUREMENT)
def heap(pages: list[int], tokens: list[int], rounds: int, seed: int, json_file: Path | None) -> None:
    """Measure what memory management costs a token, beside a plain free list.

    allocate: open a sequence and grant its prompt. extend: every sequence takes its next page. publish: hand full
    pages to the prefix tree. share: find and take a cached prefix. free: close, and the pages are free, or stay
    cached. evict: allocate where everything that is not held is cached. No model is needed.
    """
    from infergc.bench.heap import (  # noqa: PLC0415 - --help must not wait for it
        LEAST_PAGES,
        MOST_PAGES,
        PAGE_TOKENS,
        most_tokens,
        run,
    )

    if pages[0] < LEAST_PAGES or pages[-1] > MOST_PAGES:
        wrong = pages[0] if pages[0] < LEAST_PAGES else pages[-1]
        raise click.UsageError(f"--pages {wrong}: at least {LEAST_PAGES} and at most {MOST_PAGES}")
    if tokens[0] < PAGE_TOKENS:
        raise click.UsageError(f"--tokens {tokens[0]}: at least {PAGE_TOKENS}, one page")
    most = most_tokens(pages[0])
    if tokens[-1] > most:
        raise click.UsageError(f"--tokens {tokens[-1]}: at most {most} with --pages {pages[0]}")
    rows: list[Row] = []
    for row in run(pages, tokens, rounds, seed):
        _show(row, first=not rows)
        rows.append(row)
    if json_file is not None:
        write_json(json_file, {"unit": "nanoseconds a token", "rows": [asdict(row) for row in rows]})


def _show(row: "Row", *, first: bool) -> None:
    names = list(row.heap)
    widths = [max(len(name), _PAIR if name in row.free_list else _ALONE) for name in names]
    if first:
        click.echo("nanoseconds a token; in brackets a plain free list")
        click.echo(_line("pages", "tokens", names, widths))
    cells = [_cell(row.heap[name], row.free_list.get(name)) for name in names]
    click.echo(_line(str(row.pages), str(row.tokens), cells, widths))


def _line(pages: str, tokens: str, cells: list[str], widths: list[int]) -> str:
    columns = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{pages:>8} {tokens:>7} {columns}"


def _cell(ours: float, plain: float | None) -> str:
    return _short(ours) if plain is None else f"{_short(ours)} ({_short(plain)})"


def _short(figure: float) -> str:
    return f"{figure:.1f}" if figure < 99.95 else f"{figure:.0f}"
