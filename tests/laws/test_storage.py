"""Shadow memory behind a heap under ``--heap-debug``: storage alone sees what the laws are there to prevent.

``--heap-ops N`` sets the length here too: a quarter of it, over all shapes together, or longer until the
walks came upon all that they are to come upon.
"""

from collections.abc import Callable

import pytest

from infergc.heap.errors import HeapCorruption
from infergc.units import ceil_div
from laws import mutants
from laws.oracle import LawBroken
from laws.shapes import SHAPES, TIERED, Shape
from laws.storage_world import CopierWorld, StorageWorld, storage_walk
from laws.world import World

_SHAPES = {shape.name: shape for shape in SHAPES}
_COUNT = 2500  # operations in which each planted bug shows
_PLANTS = (
    mutants.the_write_barrier_is_off,
    mutants.the_write_barrier_forgets_forks,
    mutants.a_copy_goes_the_wrong_way,
    mutants.a_copy_forgets_the_count,
    mutants.pages_are_freed_under_steps_in_flight,
    mutants.a_match_compares_first_tokens_of_pages_only,
    mutants.publication_swaps_in_pages_shifted_by_one,
)


def unseen(world: World) -> set[str]:
    """What a walk is to come upon, and this one did not yet."""
    expected = {"step", "run"}
    if world.shape.disk:
        expected |= {"give_way", "come_back", "disk", "news"}
    elif world.shape.host:
        expected |= {"give_way", "come_back", "restored"}
    else:
        expected |= {"complete", "fork", "late stop", "read back"}
        expected |= {"hit", "copy"} if world.shape.prefix_caching else set()
    return expected - {name for name, times in world.seen.items() if times}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_storage_holds_what_was_written_until_it_is_freed(shape: Shape, request: pytest.FixtureRequest) -> None:
    count = ceil_div(request.config.getoption("--heap-ops"), 4 * len(SHAPES))
    world = storage_walk(StorageWorld(shape), 3, count, unseen=unseen)
    assert not unseen(world), world.seen


@pytest.mark.parametrize("world_class", [StorageWorld, CopierWorld])
@pytest.mark.parametrize("shape", TIERED, ids=lambda shape: shape.name)
def test_tiers_hold_what_was_written_whoever_moves_it(
    shape: Shape, world_class: type[StorageWorld], request: pytest.FixtureRequest
) -> None:
    """In the plan's order, as under ``--heap-debug``, and in the order of worker and copier."""
    count = ceil_div(request.config.getoption("--heap-ops"), 25)
    world = storage_walk(world_class(shape), 3, count, unseen=unseen)
    assert not unseen(world), world.seen


@pytest.mark.parametrize("plant", _PLANTS, ids=lambda plant: plant.__name__)
def test_storage_alone_shows_a_planted_bug(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises((LawBroken, HeapCorruption)):
        storage_walk(StorageWorld(_SHAPES["full-sliding-8"]), 6, _COUNT, laws=False)
