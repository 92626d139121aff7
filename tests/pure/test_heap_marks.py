"""Marks stand for a page and all before it, in its namespace; nodes have those of their pages, come what may."""

import random

import numpy as np

from infergc.heap.heap import Heap
from infergc.heap.marks import marks_in, marks_of, seed_of
from infergc.heap.nodes import Namespace, Node
from samples.heaps import P, compute, finished, open_stream, small_heap

SEED = seed_of(Namespace("m"))


def marks(tokens: list[int], seed: int = SEED) -> list[int]:
    return marks_of(np.array(tokens, np.int32), P, seed, 0).tolist()


def test_a_mark_is_of_the_page_and_all_before_it() -> None:
    one, other = marks([*range(4 * P)]), marks([*range(2 * P), 7, *range(2 * P + 1, 4 * P)])
    assert one[:2] == other[:2]
    assert one[2] != other[2]
    assert one[3] != other[3]


def test_pages_that_change_places_have_other_marks() -> None:
    ab, ba = [*range(P), *range(P, 2 * P)], [*range(P, 2 * P), *range(P)]
    assert marks(ab)[1] != marks(ba)[1]


def test_negative_and_large_ids_and_each_place_in_a_page_count() -> None:
    page = [0] * P
    variants = [page, *([*page[:at], token, *page[at + 1 :]] for at in range(P) for token in (1, -1, 2**31 - 1))]
    assert len({marks(variant)[0] for variant in variants}) == len(variants)


def test_namespaces_have_marks_of_their_own() -> None:
    seeds = [seed_of(Namespace(model, salt)) for model in ("m", "n") for salt in ("", "a", "m")]
    assert len({marks([*range(P)], seed)[0] for seed in seeds}) == len(seeds)


def test_marks_go_on_from_any_page() -> None:
    tokens = np.array([*range(9 * P)], np.int32)
    whole = marks_of(tokens, P, SEED, 0)
    assert np.array_equal(marks_of(tokens[4 * P :], P, int(whole[3]), 4), whole[4:])


def text_to(node: Node) -> list[int]:
    path: list[int] = []
    one: Node | None = node
    while one is not None:
        path = [*one.tokens.view().tolist(), *path]
        one = one.parent
    return path


def check_marks(heap: Heap) -> None:
    for node in heap.tree.nodes():
        assert marks_in(node).tolist() == marks(text_to(node))[-node.length :]


def test_nodes_have_the_marks_of_their_text_when_they_grow_split_and_shrink() -> None:
    """Asked at any moment, some of them only later: what was worked out goes with the pages."""
    draw = random.Random(1)  # noqa: S311 - a workload
    heap = small_heap(pages=48)
    for number in range(200):
        stem = [*range(draw.randint(0, 6) * P)]
        finished(heap, [*stem, *(draw.randint(0, 3) for _ in range(draw.randint(1, 6) * P))])
        if number % 3 == 0:
            growing = open_stream(heap, [1000 + number] * (4 * P))
            compute(heap, growing, 2 * P)
            check_marks(heap)
            compute(heap, growing, 4 * P, start=2 * P)
            heap.close(growing)
        if draw.random() < 0.3:
            marks_in(draw.choice(heap.tree.nodes()))
    check_marks(heap)
