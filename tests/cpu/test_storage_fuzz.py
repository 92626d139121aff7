"""Random operations of a heap over real KV storage: what was written is read back until its page is freed.

``--heap-ops N`` sets the length: a tenth of it, over all cases together.
"""

import pytest
import torch

from cpu.kv_store import KVStore
from infergc.units import ceil_div
from laws.shapes import SHAPES, TIERED, Shape
from laws.storage_world import StorageWorld, storage_walk

_CASES = [(shape, torch.bfloat16 if at % 2 else torch.float32) for at, shape in enumerate((*SHAPES, *TIERED))]


@pytest.mark.parametrize(("shape", "dtype"), _CASES, ids=[f"{shape.name}-{dtype}" for shape, dtype in _CASES])
def test_kv_is_read_back_until_it_is_freed(shape: Shape, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    count = ceil_div(request.config.getoption("--heap-ops"), 10 * len(_CASES))
    store: list[KVStore] = []

    def make_store(heap: object) -> KVStore:
        store.append(KVStore(heap, dtype))
        return store[0]

    world = storage_walk(StorageWorld(shape, make_store), 3, count)
    assert {"run", "fork", "read back"} <= {name for name, times in world.seen.items() if times}, world.seen
    assert store[0].storage.inspect() == []
