"""Copies of pages within an arena: which can be made at once, and the two ways to make them.

Shapes: L layers of a group, N its pages, G KV heads, P tokens in a page, D head dim.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module

import torch

from infergc.heap.moves import Move

Copies = Callable[[torch.Tensor, Sequence[Move]], None]  # in an arena [L, 2, N, G, P, D], as if one after the other


def independent(moves: Sequence[Move]) -> int:
    """How many from the first on can be made in any order, and so twice: no copy touches what another one writes.

    They are copies in one layer group. Whatever else comes first is made by itself.
    """
    first = moves[0]
    read: set[int] = set()
    written: set[int] = set()
    for count, move in enumerate(moves):
        touches = move.src in written or move.dst in written or move.dst in read
        if move.kind != "copy" or move.group != first.group or touches:
            return max(count, 1)
        read.add(move.src)
        written.add(move.dst)
    return len(moves)


def copy_runs(arena_L2NGPD: torch.Tensor, moves: Sequence[Move]) -> None:
    """Make copies in torch, one after the other; whole pages from neighbours to neighbours are one."""
    for move, pages in _joined(moves, arena_L2NGPD.shape[4]):
        kept_L2NGPD = arena_L2NGPD[:, :, move.src : move.src + pages, :, : move.tokens]
        arena_L2NGPD[:, :, move.dst : move.dst + pages, :, : move.tokens] = kept_L2NGPD


def kernel_copies() -> Copies:
    """What makes copies by Triton's kernel, all that are independent in one launch. Imports Triton."""
    move_pages = import_module("infergc.kernels.triton.moving").move_pages

    def copy(arena_L2NGPD: torch.Tensor, moves: Sequence[Move]) -> None:
        launches: list[int] = []
        while (made := sum(launches)) < len(moves):
            launches.append(independent(moves[made:]))
        columns = ([getattr(move, name) for move in moves] for name in ("src", "dst", "tokens"))
        move_pages(arena_L2NGPD, *columns, launches)

    return copy


def _joined(moves: Sequence[Move], page_tokens: int) -> Iterator[tuple[Move, int]]:
    """The first move of each run, and its pages."""
    at = 0
    while at < len(moves):
        pages = _run(moves, at, page_tokens)
        yield moves[at], pages
        at += pages


def _run(moves: Sequence[Move], at: int, page_tokens: int) -> int:
    """How many moves from ``at`` on are one: of whole neighbours to neighbours."""
    first, pages = moves[at], 1
    apart = abs(first.dst - first.src)  # as many pages can be copied at once as if one after the other
    while (
        first.tokens == page_tokens
        and pages < min(apart, len(moves) - at)
        and moves[at + pages] == replace(first, src=first.src + pages, dst=first.dst + pages)
    ):
        pages += 1
    return pages
