"""KV storage: layer groups, lazy memory, and the moves."""

from dataclasses import replace

import psutil
import pytest
import torch

from infergc.heap.groups import split_budget
from infergc.models.spec import ModelSpec, RopeSpec
from infergc.sched.plan import Move
from infergc.units import GIB, MIB
from infergc.worker.memory.storage import KVStorage, layer_groups

PAGE = 16
SPEC = ModelSpec(
    architecture="Qwen2ForCausalLM",
    dtype=torch.float32,
    vocab_size=10,
    hidden_size=64,
    intermediate_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    windows=(None, 40, None, None, 40),
    max_len=4096,
    rms_eps=1e-6,
    rope=RopeSpec(),
)


def storage_of(spec: ModelSpec, kv_bytes: int) -> KVStorage:
    groups = layer_groups(spec, PAGE)
    return KVStorage(spec, groups, split_budget(groups.specs, kv_bytes), PAGE)


def test_layers_are_grouped_by_window() -> None:
    groups = layer_groups(SPEC, PAGE)
    layer_bytes = 2 * 2 * PAGE * 8 * 4  # K and V × heads × tokens × dim × float32
    assert [(g.name, g.window, g.page_bytes) for g in groups.specs] == [
        ("full", None, 3 * layer_bytes),
        ("window", 40, 2 * layer_bytes),
    ]
    assert groups.of_layer == (0, 1, 0, 0, 1)


def test_one_kind_of_layer_is_one_group() -> None:
    assert [g.name for g in layer_groups(replace(SPEC, windows=(None,) * 3), PAGE).specs] == ["full"]
    assert [g.name for g in layer_groups(replace(SPEC, windows=(40,) * 3), PAGE).specs] == ["window"]


def test_every_layer_has_its_own_memory_and_all_of_it_is_the_budget() -> None:
    storage = storage_of(SPEC, 10 * sum(g.page_bytes for g in layer_groups(SPEC, PAGE).specs))
    tensors = [x_NGPD for layer in range(5) for x_NGPD in storage.layer(layer)]
    assert all(x_NGPD.shape == (10, 2, PAGE, 8) and x_NGPD.is_contiguous() for x_NGPD in tensors)
    for value, x_NGPD in enumerate(tensors):
        x_NGPD.fill_(value)
    assert [x_NGPD.unique().tolist() for x_NGPD in tensors] == [[value] for value in range(10)]
    assert sum(x_NGPD.nbytes for x_NGPD in tensors) == 10 * sum(g.page_bytes for g in layer_groups(SPEC, PAGE).specs)


def test_untouched_pages_take_no_memory() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    storage = storage_of(SPEC, 4 * GIB)
    storage.layer(0)[0][:100] = 1.0
    assert process.memory_info().rss - before < 64 * MIB


def test_a_copy_moves_the_first_tokens_of_every_layer_of_its_group_only() -> None:
    storage = storage_of(SPEC, 10 * sum(g.page_bytes for g in layer_groups(SPEC, PAGE).specs))
    before = []
    for layer in range(5):
        for x_NGPD in storage.layer(layer):
            x_NGPD.normal_()
            before.append(x_NGPD.clone())
    storage.apply((Move("copy", group=1, src=3, dst=7, tokens=5),))
    for index, old_NGPD in enumerate(before):
        new_NGPD, expected_NGPD = storage.layer(index // 2)[index % 2], old_NGPD.clone()
        if index // 2 in (1, 4):
            expected_NGPD[7, :, :5] = old_NGPD[3, :, :5]
        assert torch.equal(new_NGPD, expected_NGPD)


def test_moves_are_applied_in_order() -> None:
    storage = storage_of(SPEC, 10 * sum(g.page_bytes for g in layer_groups(SPEC, PAGE).specs))
    k_NGPD, _ = storage.layer(0)
    k_NGPD[0], k_NGPD[1], k_NGPD[2] = 1.0, 2.0, 3.0
    storage.apply((Move("copy", 0, 0, 1, PAGE), Move("copy", 0, 1, 2, PAGE)))
    assert k_NGPD[2].unique().tolist() == [1.0]


MOVES = {
    "a run": [(1, 5), (2, 6), (3, 7)],
    "a run towards itself": [(0, 1), (1, 2), (2, 3), (3, 4)],
    "a run from behind": [(3, 2), (4, 3), (5, 4)],
    "two runs that meet": [(0, 6), (1, 7), (2, 8), (7, 3), (8, 4)],
    "a chain": [(9, 0), (0, 4), (1, 5), (5, 8)],
}


@pytest.mark.parametrize("pairs", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("tokens", [PAGE, 5])
def test_many_moves_do_what_one_by_one_would(pairs: list[tuple[int, int]], tokens: int) -> None:
    """Runs of whole pages are copied at once; where that would give something else, they are not."""
    moves = tuple(Move("copy", group, src, dst, tokens) for group in (0, 1) for src, dst in pairs)
    together, one_by_one = (storage_of(SPEC, 10 * sum(g.page_bytes for g in layer_groups(SPEC, PAGE).specs))
                            for _ in range(2))  # fmt: skip
    for layer in range(5):
        for x_NGPD, y_NGPD in zip(together.layer(layer), one_by_one.layer(layer), strict=True):
            x_NGPD.normal_()
            y_NGPD.copy_(x_NGPD)
    together.apply(moves)
    for move in moves:
        one_by_one.apply((move,))
    for layer in range(5):
        for x_NGPD, y_NGPD in zip(together.layer(layer), one_by_one.layer(layer), strict=True):
            assert torch.equal(x_NGPD, y_NGPD)
