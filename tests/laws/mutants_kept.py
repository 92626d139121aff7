"""Planted bugs in what keeps prefixes because somebody asked: pins, their budget, hints."""

from typing import Any

from infergc.heap.heap import Heap
from infergc.heap.hints import Hints
from infergc.heap.holdings import Holdings
from infergc.heap.nodes import Node
from infergc.heap.tree import PrefixTree
from laws.mutants import Patch, around, mutant


@mutant(6)
def a_pin_that_ends_still_counts(patch: Patch) -> None:
    patch.setattr(Holdings, "_count_out", lambda *_: None)


@mutant(6)
def the_half_of_a_split_node_forgets_its_pins(patch: Patch) -> None:
    def inherit(original: Any, tree: PrefixTree, upper: Node, node: Node, step: int) -> None:
        original(tree, upper, node, step)
        upper.pins = 0

    around(patch, PrefixTree, "_inherit", inherit)


@mutant(6)
def the_budget_is_not_looked_at(patch: Patch) -> None:
    def pin(original: Any, heap: Heap, *named: Any) -> Any:
        budget, heap.pin_budget = heap.pin_budget, 1 << 30
        made = original(heap, *named)
        heap.pin_budget = budget
        return made

    around(patch, Heap, "pin", pin)


@mutant(2)
def a_pin_takes_no_references(patch: Patch) -> None:
    def pin(original: Any, heap: Heap, *named: Any) -> Any:
        made = original(heap, *named)
        if made is not None:
            heap.groups[-1].release(made.parked[-1])
        return made

    around(patch, Heap, "pin", pin)


@mutant(6)
def nobody_watches_the_time_of_a_split_node(patch: Patch) -> None:
    patch.setattr(Hints, "inherit", lambda _, upper, node: setattr(upper, "hint", node.hint))
