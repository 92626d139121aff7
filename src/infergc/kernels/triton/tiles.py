"""How much a program of the attention kernels holds, by head dim and element size: constants, with their reasons.

Nothing is tuned at run time: that would cost time in service, and another choice has other bits.
"""

from dataclasses import dataclass

from infergc.kernels.api import AttentionNeeds
from infergc.units import ceil_div


@dataclass(frozen=True, slots=True)
class Tiles:
    """Sizes of the attention kernels. Every size is a power of two.

    Attributes:
        segment: key positions that are folded from nothing, and then merged. Where segments lie depends on
            positions only, which is why results do not depend on the batch.
        keys: key positions of one step of the loop within a segment; the same for long and for short rows.
        long_queries: query vectors (positions times heads that share a KV head) of a program for long rows.
        long_warps: warps of such a program.
        long_stages: depth of the pipeline that loads keys and values.
        short_queries: query vectors of a program for short rows: the least that a matrix instruction takes.
        short_warps: warps of such a program.
        short_stages: as long_stages.
    """

    segment: int
    keys: int
    long_queries: int
    long_warps: int
    long_stages: int
    short_queries: int
    short_warps: int
    short_stages: int


SHORT_TOKENS = 16  # rows of at most so many tokens are split over segments: too few queries to fill a machine

# Of two bytes. 512 positions are 8 pieces of work per KV head at a context of 4k, and few enough merges not to be
# felt in a prefill. 128 query vectors by 64 keys feed two warpgroups, which share what they load; of the segment's
# accumulator, that of all before and the scores, ptxas for sm_90 spills 36 bytes at head dim 128. At 256 it spills
# none with half the query vectors and keys; there the two warpgroups share rows. Short rows wait for memory: a
# program has 32 KiB under way at head dim 128, and its 38 KiB leave room for five at a time.
# Stages are shared by two kinds of loads, of page numbers and then of what lies in the pages: five load two tiles
# ahead, three load one. Long rows need the two, for nothing else runs beside such a program on a multiprocessor.
_HALF = {
    64: Tiles(512, 64, 128, 8, 5, 16, 4, 3),
    128: Tiles(512, 64, 128, 8, 5, 16, 4, 3),
    256: Tiles(512, 32, 64, 8, 5, 16, 4, 3),
}
# Of four bytes there are no matrix units that keep all bits: this is for checks, and only has to fit.
_SINGLE = {
    64: Tiles(512, 32, 32, 4, 2, 16, 4, 2),
    128: Tiles(512, 32, 32, 4, 2, 16, 4, 2),
    256: Tiles(512, 32, 16, 4, 1, 16, 4, 1),
}


def tiles(needs: AttentionNeeds) -> Tiles:
    """The sizes for a model's heads: those of the next greater head dim that is listed."""
    table = _SINGLE if needs.dtype.itemsize == 4 else _HALF
    return next(sizes for width, sizes in table.items() if needs.head_dim <= width)


@dataclass(frozen=True, slots=True)
class Share:
    """How the query heads of a KV head are packed with query positions into a program's query vectors.

    Vector i of a program is head ``i % heads`` of position ``i // heads``; what is left over is idle.

    Attributes:
        heads: query heads of a program.
        parts: programs that the query heads of one KV head need.
        positions: query positions of a program.
    """

    heads: int
    parts: int
    positions: int


def share(group: int, vectors: int) -> Share:
    """Pack: ``group`` query heads of a KV head into programs of ``vectors`` query vectors."""
    heads = min(group, vectors)
    return Share(heads, ceil_div(group, heads), vectors // heads)


def power_of_two(n: int) -> int:
    """The least power of two that is not below n, which is positive: blocks of Triton have no other sizes."""
    return 1 << (n - 1).bit_length()
