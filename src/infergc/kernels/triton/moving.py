"""Moving pages within storage: copies of the first tokens of pages, in all layers of a group.

Shapes: L layers of the group, N pages, G KV heads, P tokens in a page, D head dim, M moves, W words of a page.
"""

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl

_WORD = torch.int32  # pages are copied as words of four bytes, whatever they hold


def move_pages(
    arena_L2NGPD: torch.Tensor, src: Sequence[int], dst: Sequence[int], tokens: Sequence[int], launches: Sequence[int]
) -> None:
    """Copy the first ``tokens[i]`` tokens of page ``src[i]`` to page ``dst[i]``, K and V, in every layer.

    Args:
        arena_L2NGPD: contiguous storage of a layer group, whose heads are a multiple of four bytes wide.
        src: page numbers, one for each move.
        dst: as many.
        tokens: as many, up to P.
        launches: how many of them each launch makes, in any order: none reads or writes what another one of the same
            launch writes (``worker.devices.copies.independent``).

    Raises:
        ValueError: the arena is not as above, the lists are not of one length, or a move leaves the arena; none was
            made.
    """
    layers, _, pages, heads, page_tokens, _ = arena_L2NGPD.shape
    words, moves_M3 = _words(arena_L2NGPD), _checked(src, dst, tokens, pages, page_tokens)
    token_words = words.shape[-1]
    page_words = page_tokens * token_words  # of one head
    planes = 2 * layers * heads
    listed = torch.from_numpy(moves_M3)
    if arena_L2NGPD.is_cuda:  # of memory that is not pinned the driver may copy when all before it is done, and wait
        listed = listed.pin_memory()
    on_device = listed.to(arena_L2NGPD.device, non_blocking=True)
    for some_M3 in torch.split(on_device, list(launches)):
        copy_pages[(len(some_M3) * planes,)](
            words, some_M3, pages * page_words * heads, HEADS=heads, PLANES=planes, PAGE_WORDS=page_words,
            TOKEN_WORDS=token_words, W=_BLOCK, num_warps=4,
        )  # fmt: skip


def _words(arena_L2NGPD: torch.Tensor) -> torch.Tensor:
    wide = arena_L2NGPD.shape[-1] * arena_L2NGPD.itemsize
    if not arena_L2NGPD.is_contiguous() or wide % _WORD.itemsize:
        raise ValueError(f"pages of heads of {wide} bytes, or with gaps, cannot be moved; contiguous ones of 4 · n can")
    return arena_L2NGPD.view(_WORD)


def _checked(src: Sequence[int], dst: Sequence[int], tokens: Sequence[int], pages: int, page_tokens: int) -> np.ndarray:
    if not len(src) == len(dst) == len(tokens):
        raise ValueError(f"{len(src)} sources, {len(dst)} destinations and {len(tokens)} lengths are not as many moves")
    moves_M3 = np.array([src, dst, tokens], np.int32).reshape(3, -1).T.copy()
    over = (moves_M3 < 0) | (moves_M3 > [pages - 1, pages - 1, page_tokens])
    if over.any():
        bad = moves_M3[over.any(1)][0]
        raise ValueError(
            f"a move of {bad[2]} tokens from page {bad[0]} to {bad[1]}: storage has {pages} pages of {page_tokens}"
        )
    return moves_M3


_BLOCK = 1024  # words at a time: a warp's four vectors of 16 bytes a thread, halves of the least pages


@triton.jit(do_not_specialize_on_alignment=["moves"])
def copy_pages(
    words: tl.tensor,
    moves: tl.tensor,
    layer_words: tl.tensor,
    HEADS: tl.constexpr,
    PLANES: tl.constexpr,
    PAGE_WORDS: tl.constexpr,
    TOKEN_WORDS: tl.constexpr,
    W: tl.constexpr,
) -> None:
    """One program for each move and each plane (a head of K or V of a layer), whose tokens are one piece.

    ``layer_words`` is from K of a layer to its V, and on to the next layer's K.
    """
    move = tl.program_id(0) // PLANES
    plane = tl.program_id(0) % PLANES
    first = (plane // HEADS).to(tl.int64) * layer_words + plane % HEADS * PAGE_WORDS
    source = words + first + tl.load(moves + 3 * move).to(tl.int64) * (HEADS * PAGE_WORDS)
    target = words + first + tl.load(moves + 3 * move + 1).to(tl.int64) * (HEADS * PAGE_WORDS)
    end = tl.load(moves + 3 * move + 2) * TOKEN_WORDS
    for at in tl.range(0, end, W):
        word_W = at + tl.arange(0, W)
        kept_W = tl.load(source + word_W, mask=word_W < end)
        tl.store(target + word_W, kept_W, mask=word_W < end)
