"""Layer groups: layers that share page tables, page numbers and a page size in bytes."""

from dataclasses import dataclass, replace

from infergc.units import ceil_div, format_bytes


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """One layer group.

    Attributes:
        name: as shown in metrics and dumps.
        page_bytes: bytes of K and V of one page over all layers of the group.
        window: sliding window in tokens (position p sees p - window + 1 … p), None for full attention.
        capacity: pages that storage holds for this group; 0 until a budget was split.
    """

    name: str
    page_bytes: int
    window: int | None = None
    capacity: int = 0


def split_budget(groups: tuple[GroupSpec, ...], kv_bytes: int) -> tuple[GroupSpec, ...]:
    """Give every group the same number of pages, as many as ``kv_bytes`` holds.

    Equal page counts hold equal token counts: a cached prefix needs a page of every group.

    Raises:
        ValueError: the budget does not hold one page of each group.
    """
    bundle = sum(group.page_bytes for group in groups)
    pages = kv_bytes // bundle
    if pages < 1:
        raise ValueError(
            f"{format_bytes(kv_bytes)} is too little; one page of every layer group takes {format_bytes(bundle)}"
        )
    return tuple(replace(group, capacity=pages) for group in groups)


def pages_for(tokens: int, page_tokens: int) -> int:
    """Pages that hold ``tokens`` tokens."""
    return ceil_div(tokens, page_tokens)


def window_pages(spec: GroupSpec, page_tokens: int, chunk: int) -> int:
    """Most pages that one sequence holds in a group: its window, a chunk being computed and one in transit.

    Assembly gives every group room for this much, or for the longest text if that is less: so one request
    alone always fits, however the cache stands.
    """
    if spec.window is None:
        return spec.capacity
    return pages_for(spec.window + 2 * chunk, page_tokens) + 1
