"""``check()`` finds every kind of damage to the heap's state, under the name of the law."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from infergc.heap.errors import HeapCorruption
from infergc.heap.heap import Heap
from infergc.heap.nodes import Namespace, Node
from infergc.heap.objects import Sequence
from samples.heaps import P, begin, compute, finished, open_stream, pages_held, small_heap


@dataclass
class Scene:
    """A heap with a cached prefix, a live stream with a published part, and a step in flight over another."""

    heap: Heap
    live: Sequence
    busy: Sequence

    @property
    def leaf(self) -> Node:
        """The idle leaf of the cached prefix."""
        return next(node for node in self.heap.tree.nodes() if node.idle)


@pytest.fixture
def scene() -> Scene:
    heap = small_heap(None, 3 * P, pages=70)
    finished(heap, range(500, 500 + 2 * P))
    live, busy = open_stream(heap, range(40), "a"), open_stream(heap, range(100, 164), "b")
    compute(heap, live, 20)
    compute(heap, busy, 4 * P)
    heap.slide(busy, 4 * P)
    begin(heap, busy, 4 * P, 4 * P + 3)
    heap.check()
    return Scene(heap, live, busy)


def _mask_beyond_capacity(scene: Scene) -> None:
    scene.heap.groups[0].space.masks[-1] |= 1 << 100


def _free_counter(scene: Scene) -> None:
    scene.heap.groups[1].space.free += 1


def _whole_counter(scene: Scene) -> None:
    scene.heap.groups[0].space.whole += 1


def _free_bit(scene: Scene) -> None:
    scene.heap.groups[0].space.masks[0] |= 1
    scene.heap.groups[0].space.free += 1


def _cached_counter(scene: Scene) -> None:
    scene.heap.groups[0].cached -= 1


def _class_of_a_superblock(scene: Scene) -> None:
    space = scene.heap.groups[0].space
    space.filed[0] = len(space.classes)


def _leaked_reference(scene: Scene) -> None:
    scene.heap.groups[1].count[pages_held(scene.heap, scene.live, 1)[0]] += 1


def _page_that_is_no_number(scene: Scene) -> None:
    scene.leaf.pages[0].view()[0] = -1


def _page_beyond_capacity(scene: Scene) -> None:
    scene.leaf.pages[1].view()[0] = scene.heap.groups[1].spec.capacity


def _page_of_a_stream_beyond_capacity(scene: Scene) -> None:
    pages = np.array([pages_held(scene.heap, scene.live)[0], 1 << 30], np.int32)
    scene.heap.tables[0].replace(scene.live.slot, 0, pages)


def _write_to_a_shared_page(scene: Scene) -> None:
    branch = scene.heap.fork(scene.live, "branch")
    assert branch is not None
    rows = (np.array([number], np.int32) for number in (branch.slot, 20, 1))
    scene.heap.begin_step(*rows)


def _write_to_a_published_page(scene: Scene) -> None:
    rows = (np.array([number], np.int32) for number in (scene.live.slot, 0, 1))
    scene.heap.begin_step(*rows)


def _page_freed_under_a_step(scene: Scene) -> None:
    tail = scene.heap.tables[0].drop_tail(scene.busy.slot, 4)
    scene.heap.groups[0].release(tail)
    scene.heap.length[scene.busy.slot] = 4 * P


def _page_of_a_step_changed_hands(scene: Scene) -> None:
    tail = scene.heap.tables[0].drop_tail(scene.busy.slot, 4)
    other = open_stream(scene.heap, range(9), "c")
    scene.heap.tables[0].append(other.slot, tail)


def _users_of_a_node(scene: Scene) -> None:
    scene.leaf.users += 1


def _idle_leaf_nobody_offers(scene: Scene) -> None:
    scene.heap.tree.order._queued.clear()


def _keys_of_a_node(scene: Scene) -> None:
    next(iter(scene.heap.tree.roots.values())).keys.clear()


def _users_of_a_root(scene: Scene) -> None:
    next(iter(scene.heap.tree.roots.values())).users += 1


def _root_of_nobody(scene: Scene) -> None:
    scene.heap.tree.root(Namespace("m", "nobody"))


def _node_in_the_wrong_place(scene: Scene) -> None:
    scene.leaf.tokens.view()[0] = 7


def _node_short_of_a_page(scene: Scene) -> None:
    scene.leaf.pages[1].drop(1)


def _page_indexed_elsewhere(scene: Scene) -> None:
    scene.heap.tree.index.moved(0, scene.live.tip, scene.leaf.pages[0].view())


def _node_not_indexed(scene: Scene) -> None:
    scene.heap.tree.index.leave(scene.leaf)


def _tip_cut_off(scene: Scene) -> None:
    parent = scene.live.tip.parent
    assert parent is not None
    parent.children.clear()
    parent.keys.clear()


def _page_sealed_by_nobody(scene: Scene) -> None:
    scene.heap.groups[0].sealed[pages_held(scene.heap, scene.live)[-1]] = True


def _sealed_more_than_the_path(scene: Scene) -> None:
    scene.live.sealed += 1


def _other_tokens_than_the_path(scene: Scene) -> None:
    scene.live.tokens.view()[3] = 77


def _other_namespace_than_the_path(scene: Scene) -> None:
    scene.live.namespace = Namespace("m", "elsewhere")


def _own_pages_held_public(scene: Scene) -> None:
    scene.live.namespace = Namespace("m", "a", public=1)
    scene.heap.tree.roots[scene.live.namespace.origin] = scene.heap.tree.roots.pop(Namespace("m", "a"))


def _door_below_no_public_page(scene: Scene) -> None:
    scene.leaf.door = Namespace("m", "a", public=1).door(1)


def _other_pages_than_the_path(scene: Scene) -> None:
    pages = np.array(pages_held(scene.heap, scene.live)[:2], np.int32)
    scene.heap.tables[0].replace(scene.live.slot, 0, pages[::-1])


def _published_and_lossy(scene: Scene) -> None:
    scene.heap.groups[0].lossy[scene.leaf.pages[0].view()[0]] = True


def _granted_in_one_group_only(scene: Scene) -> None:
    heap = scene.heap
    heap.tables[0].append(scene.live.slot, heap.groups[0].allocate(1, -1, 0, lossy=False))
    heap.length[scene.live.slot] += P


DAMAGES: list[tuple[Callable[[Scene], None], str]] = [
    (_mask_beyond_capacity, "law 1: group g0 has free pages beyond its capacity"),
    (_free_counter, "law 1: group g1 counts"),
    (_whole_counter, r"law 1: group g0 counts \d+ pages free in whole superblocks"),
    (_free_bit, "law 1: group g0: pages nobody counts"),
    (_cached_counter, r"law 1: group g0 counts \d+ pages cached"),
    (_cached_counter, r"law 1: sequences hold \d+ pages"),
    (_class_of_a_superblock, "law 1: group g0: superblock 0"),
    (_leaked_reference, "law 2: group g1: page"),
    (_page_that_is_no_number, "law 2: group g0: page -1 is held, and it has pages 0 to 69"),
    (_page_beyond_capacity, "law 2: group g1: page 70 is held, and it has pages 0 to 69"),
    (_page_of_a_stream_beyond_capacity, "law 2: group g0: page 1073741824 is held"),
    (_write_to_a_shared_page, "law 3: step 4 writes to a shared page"),
    (_write_to_a_published_page, "law 3: step 4 writes to a sealed page"),
    (_page_freed_under_a_step, "law 4: step 3 reads a page of sb that is free"),
    (_page_of_a_step_changed_hands, "law 5: step 3 is in flight, but nothing keeps a page of sb"),
    (_users_of_a_node, r"law 6: node \d+ counts 1 users, 0 stand there"),
    (_idle_leaf_nobody_offers, r"law 6: node \d+ is an idle leaf"),
    (_keys_of_a_node, r"law 6: node \d+ has keys that differ"),
    (_users_of_a_root, r"law 6: node 0 counts 1 users, 0 stand there"),
    (_root_of_nobody, "law 6: a namespace that nothing uses was not forgotten"),
    (_node_in_the_wrong_place, r"law 6: node \d+ does not hang"),
    (_node_short_of_a_page, r"law 6: node \d+ lacks pages of a group"),
    (_page_indexed_elsewhere, r"law 6: pages of node \d+ are indexed under another"),
    (_node_not_indexed, r"law 6: \d+ nodes are indexed, the prefix tree has \d+"),
    (_tip_cut_off, "law 6: a sequence stands on a node that was reclaimed"),
    (_page_sealed_by_nobody, "law 6: group g0: sealed pages and pages of the prefix tree differ"),
    (_sealed_more_than_the_path, "law 7: sa seals 3 pages, its path holds 16 tokens"),
    (_other_tokens_than_the_path, "law 7: sa shares pages of other tokens"),
    (_other_namespace_than_the_path, "law 7: sa stands in another namespace"),
    (_own_pages_held_public, "law 7: sa stands behind another tenant's door, or none"),
    (_door_below_no_public_page, r"law 7: node \d+ stands behind a door where none can be"),
    (_other_pages_than_the_path, "law 7: sa holds other pages"),
    (_published_and_lossy, "law 8: group g0 has published pages that are not exact"),
    (_granted_in_one_group_only, "law 9: sa was granted 4 pages, but not in group g1"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_named(scene: Scene, damage: Callable[[Scene], None], message: str) -> None:
    damage(scene)
    with pytest.raises(HeapCorruption, match=message):
        scene.heap.check()


def test_a_law_that_holds_is_not_named(scene: Scene) -> None:
    _leaked_reference(scene)
    with pytest.raises(HeapCorruption) as broken:
        scene.heap.check()
    assert {line.partition(":")[0] for line in str(broken.value).split("; ")} == {"law 2"}
