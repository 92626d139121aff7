"""Lists of moves as plans have them, and storage to make them in, on any device."""

import torch
from hypothesis import strategies as st

from cpu.kv_store import model_of
from infergc.heap.groups import GroupSpec
from infergc.heap.moves import Move
from infergc.worker.devices.device import Device
from infergc.worker.memory.storage import KVStorage, LayerGroups

PAGES, TOKENS, SLOTS = 9, 8, 4
SPECS = (GroupSpec("full", 1000, None, PAGES), GroupSpec("window", 2000, 40, PAGES))
OF_LAYER = (0, 1, 1)
page = st.integers(0, PAGES - 1)
copies = st.builds(Move, st.just("copy"), st.integers(0, 1), page, page, st.integers(1, TOKENS) | st.just(TOKENS))
stores = st.builds(Move, st.just("store"), st.integers(0, 1), page, st.integers(0, SLOTS - 1), st.just(TOKENS))
loads = st.builds(Move, st.just("load"), st.integers(0, 1), st.integers(0, SLOTS - 1), page, st.just(TOKENS))
neighbours = st.builds(
    lambda group, src, dst, count: [Move("copy", group, src + at, dst + at, TOKENS) for at in range(count)],
    st.integers(0, 1), st.integers(0, PAGES - 4), st.integers(0, PAGES - 4), st.integers(2, 4),
)  # fmt: skip
mixed = st.lists(copies | stores | loads, min_size=1, max_size=6)
plans = st.lists(neighbours | mixed, max_size=4).map(lambda parts: tuple(move for part in parts for move in part))


def storage_on(device: Device, dtype: torch.dtype = torch.float16) -> KVStorage:
    """Two groups, of one layer and of two, and their host tier: random bits, the same in every storage."""
    groups = LayerGroups(SPECS, OF_LAYER)
    storage = KVStorage(model_of(len(OF_LAYER), dtype), groups, SPECS, TOKENS, SLOTS, device)
    for seed, memory in enumerate(everything(storage)):
        bits = torch.int16 if dtype.itemsize == 2 else torch.int32
        filled = torch.randint(-(2**15), 2**15, memory.shape, generator=torch.Generator().manual_seed(seed))
        memory.view(bits).copy_(filled)
    return storage


def everything(storage: KVStorage) -> list[torch.Tensor]:
    """K and V of every layer, and the host tier's memory."""
    held = [x_NGPD for layer in range(len(OF_LAYER)) for x_NGPD in storage.layer(layer)]
    return held + [storage.host.run(group, 0, SLOTS) for group in range(len(SPECS))]


def same(ours: KVStorage, theirs: KVStorage) -> bool:
    """Bit for bit, wherever they are."""
    return all(
        torch.equal(x.cpu().contiguous().view(torch.uint8), y.cpu().contiguous().view(torch.uint8))
        for x, y in zip(everything(ours), everything(theirs), strict=True)
    )
