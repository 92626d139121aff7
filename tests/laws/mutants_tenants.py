"""Planted bugs where public pages end and a tenant's begin."""

from typing import Any

from infergc.heap import keys as keys_module
from infergc.heap import names as names_module
from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace, Node
from infergc.heap.objects import Sequence
from infergc.heap.tree import Match, PrefixTree
from laws.mutants import Patch, around, mutant


@mutant(7, "one-16")
def one_door_is_all_tenants(patch: Patch) -> None:
    patch.setattr(Namespace, "door", lambda one, page: b"\xff" * 8 if one.public and page == one.public else b"")


@mutant(7, "one-16")
def there_are_no_doors(patch: Patch) -> None:
    patch.setattr(Namespace, "door", lambda *_: b"")


@mutant(7, "one-16")
def an_edge_goes_on_through_a_door(patch: Patch) -> None:
    patch.setattr(Namespace, "alike", lambda _one, _page, end: end)


@mutant(7, "three-8")
def all_that_begins_publicly_is_public(patch: Patch) -> None:
    def open_public(original: Any, heap: Heap, owner: str, tokens: Any, namespace: Namespace) -> Sequence:
        public = tokens.size // heap.page_tokens if namespace.public else 0
        return original(heap, owner, tokens, Namespace(namespace.model, namespace.salt, public))

    around(patch, Heap, "open", open_public)


@mutant(7, "one-16")
def a_page_behind_a_door_is_shared_in_part(patch: Patch) -> None:
    def match(original: Any, tree: PrefixTree, namespace: Namespace, tokens: Any, limit: int) -> Match:
        found: Match = original(tree, namespace, tokens, limit)
        others = [(child, 0) for child in found.node.children.values() if child.door]
        at_door = namespace.public == found.pages > 0 and found.into == found.node.length
        return tree._with_partial(found, others, tokens, limit) if at_door else found

    around(patch, PrefixTree, "match", match)


@mutant(6, "one-16")
def a_split_node_keeps_its_door(patch: Patch) -> None:
    def settle(original: Any, tree: PrefixTree, node: Node, into: int, step: int) -> Node:
        door = node.door
        upper: Node = original(tree, node, into, step)
        node.door = door
        return upper

    around(patch, PrefixTree, "settle", settle)


@mutant(7, "roomy-16")
def below_the_device_there_are_no_doors(patch: Patch) -> None:
    for module in (keys_module, names_module):
        patch.setattr(module, "behind", lambda before, _door: before)
