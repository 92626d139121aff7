"""The watch over live tensors: what it counts, whom it suspects, and that it keeps nothing alive."""

import gc
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest
import torch

from infergc.engine.census import TensorCensus
from infergc.worker.debug import tensors
from infergc.worker.debug.tensors import TensorWatch


class Cache:
    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []


class Node:
    """Holds a tensor, and itself."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.me = self


@pytest.fixture(autouse=True)
def only_collected_when_told() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def watch() -> TensorWatch:
    watch = TensorWatch()
    watch.look(0)
    return watch


def grow(watch: TensorWatch, keep: Any, looks: int = 6) -> list[TensorCensus]:
    """``keep(step)`` and then a look, for as many steps."""
    found = []
    for step in range(1, looks + 1):
        keep(step)
        found.append(watch.look(step))
    return found


def test_what_was_there_first_is_the_models() -> None:
    model = torch.ones(8, 64)
    watch = TensorWatch()
    assert watch.look(0) == TensorCensus()
    assert watch.look(0).tensors == 0
    mine = torch.ones(4, 8), torch.ones(3)
    views = model[0], model.T
    census = watch.look(1)
    assert (census.tensors, census.bytes) == (4, 4 * 8 * 4 + 3 * 4), "memory of the model is the model's"
    assert len(mine) + len(views) == 4


def test_memory_that_is_shared_counts_once(watch: TensorWatch) -> None:
    whole = torch.ones(16, 1024)
    rows = list(whole.unbind())
    assert watch.look(1).tensors == 1 + len(rows)
    assert watch.look(1).bytes == whole.nbytes


def test_nothing_is_kept_alive(watch: TensorWatch) -> None:
    tensor = torch.ones(5)
    watch.look(1)
    gone = ref(tensor)
    del tensor
    assert gone() is None
    assert watch.look(2).tensors == 0


def test_a_growing_list_is_named_with_its_holder_and_age(watch: TensorWatch) -> None:
    cache = Cache()
    looks = grow(watch, lambda _: cache.kept.append(torch.ones(8, 64)))
    assert [bool(look.suspects) for look in looks] == [False, False, False, True, True, True]
    (suspect,) = looks[-1].suspects
    assert (suspect.dtype, suspect.shape, suspect.device) == ("float32", "8x64", "cpu")
    assert (suspect.tensors, suspect.bytes, suspect.age) == (6, 6 * 8 * 64 * 4, 5)
    assert suspect.held_by == "list of 4 in Cache.kept", "as it was when it was first suspected"
    assert [look.suspects[0].tensors for look in looks[3:]] == [4, 5, 6]
    cache.kept.clear()
    assert watch.look(7).suspects == ()


def test_a_leak_of_any_length_is_named_by_what_its_shapes_share(watch: TensorWatch) -> None:
    cache = Cache()
    *_, last = grow(watch, lambda step: cache.kept.append(torch.ones(step, 32)))
    (suspect,) = last.suspects
    assert (suspect.shape, suspect.tensors, suspect.held_by) == ("?x32", 6, "list of 4 in Cache.kept")


def test_a_holder_as_old_as_the_model_is_found_though_frozen(watch: TensorWatch) -> None:
    cache = Cache()
    gc.collect()
    gc.freeze()
    try:
        looks = grow(watch, lambda _: cache.kept.append(torch.ones(8, 64)))
        assert looks[-1].suspects[0].held_by == "list of 4 in Cache.kept"
        assert looks[-1].suspects[0].tensors == 6, "those frozen with it since are still seen"
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_tensors_that_come_and_go_are_never_suspected(watch: TensorWatch) -> None:
    cache = Cache()

    def replace(step: int) -> None:
        cache.kept = [torch.ones(8, 64) for _ in range(step)]  # more each time, at addresses used before

    for look in grow(watch, replace, 8):
        assert look.suspects == ()


def test_a_cache_that_is_full_is_not_suspected(watch: TensorWatch) -> None:
    cache = Cache()

    def fill(step: int) -> None:
        if step <= 2:
            cache.kept.append(torch.ones(8, 64))

    for look in grow(watch, fill, 8):
        assert look.suspects == ()


def test_a_cycle_is_named_once_the_collector_broke_it(watch: TensorWatch) -> None:
    for _ in range(5):
        Node(torch.ones(8, 64))
    before = watch.look(5)
    assert (before.tensors, before.cycles) == (5, ())
    gc.collect()
    after = watch.look(5)
    (group,) = after.cycles
    assert (group.dtype, group.shape, group.tensors, group.bytes) == ("float32", "8x64", 5, 5 * 8 * 64 * 4)
    assert group.held_by == "Node.tensor"
    assert (after.tensors, after.bytes) == (0, 0)
    assert watch.look(5).cycles == ()


def test_a_cycle_that_is_not_collected_is_a_growing_suspect(watch: TensorWatch) -> None:
    looks = grow(watch, lambda _: Node(torch.ones(8, 64)) and None)
    assert [look.suspects[0].tensors for look in looks[3:]] == [4, 5, 6]
    assert looks[-1].suspects[0].held_by == "Node.tensor"


def test_what_steps_freed_is_no_cycle(watch: TensorWatch) -> None:
    kept = [torch.ones(8, 64)]
    watch.look(1)
    kept.clear()
    assert watch.look(2).cycles == ()


def test_memory_that_something_else_shares_was_not_freed(watch: TensorWatch) -> None:
    whole = torch.ones(8, 64)
    Node(whole[0])
    watch.look(1)
    gc.collect()
    (group,) = watch.look(1).cycles
    assert (group.shape, group.tensors, group.bytes) == ("64", 1, 0)


def test_scalars_sparse_and_empty_tensors_are_counted(watch: TensorWatch) -> None:
    made = torch.tensor(1.0), torch.eye(3).to_sparse(), torch.empty(0)
    assert watch.look(1).tensors == len(made)


def test_a_tensor_that_wraps_another_has_no_memory_of_its_own() -> None:
    """A census that came upon one failed."""

    class Wrapping(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            raise NotImplementedError

    assert tensors._storage(torch.Tensor._make_wrapper_subclass(Wrapping, (2, 3), dtype=torch.float32)) == (0, 0)
