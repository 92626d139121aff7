"""Triton's backend beside its sums: where it is chosen, what it refuses, how steps are planned, what is written."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from cpu.kernel_addresses import Addresses
from cpu.kernel_cases import ROUNDED_WEIGHTS, alone, make_case, needs, run, spread
from cpu.triton_interpreter import TritonAttention
from infergc.config import ConfigError
from infergc.kernels import registry
from infergc.kernels.api import AttentionNeeds, BatchLayout
from infergc.kernels.checks import UNBOUNDED
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.reference import ReferenceAttention
from infergc.kernels.triton import environment
from infergc.kernels.triton.layout import lay_out
from infergc.kernels.triton.step import StepSize
from infergc.kernels.triton.tiles import Share, Tiles, share, tiles
from infergc.sched.plan import PageTable

SMALL = Tiles(64, 64, 32, 4, 1, 16, 4, 1)


def in_a_fresh_process(script: str) -> str:
    """What a script prints in a process that has not imported anything of this one."""
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_auto_takes_no_interpreter_and_a_name_does() -> None:
    assert registry.create_attention("auto", needs(), CpuThreads(1)).name in {"cpu", "reference"}
    assert registry.create_attention("triton", needs(), CpuThreads(1)).name == "triton"


def test_without_interpreter_it_is_for_gpus_and_nothing_imports_triton() -> None:
    printed = in_a_fresh_process(
        "import sys, torch\n"
        "from infergc.kernels import registry\n"
        "from infergc.kernels.api import AttentionNeeds\n"
        "from infergc.kernels.cpu.threads import CpuThreads\n"
        "from infergc.kernels.triton.backend import TritonAttention\n"
        "needs = AttentionNeeds('cpu', torch.float32, 4, 2, 64, 16)\n"
        "print(registry.create_attention('auto', needs, CpuThreads(1)).name != 'triton')\n"
        "print(TritonAttention.capabilities.refusal(needs))\n"
        "print(torch.bfloat16 in TritonAttention.capabilities.dtypes, 'triton' in sys.modules)\n"
    )
    assert printed.splitlines() == ["True", "device cpu is not among cuda", "True False"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": torch.bfloat16}, "dtype torch.bfloat16 is not among"),
        ({"head_dim": 72}, "head dim 72 is not a multiple of 16 up to 256"),
        ({"page_tokens": 128}, "page size 128 is not among"),
    ],
)
def test_what_it_does_not_take(change, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"--attention-backend: triton cannot run: {reason}"):
        registry.create_attention("triton", replace(needs(), **change), CpuThreads(1))


def test_why_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.unavailable() is None
    monkeypatch.setattr(environment, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch sees no CUDA device" in (environment.unavailable() or "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "compute capability is 7.5, and at least 8.0" in (environment.unavailable() or "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert environment.unavailable() is None
    monkeypatch.setattr(environment, "find_spec", lambda _: None)
    assert "pip install 'infergc[gpu]'" in (environment.unavailable() or "")


@pytest.mark.parametrize(
    ("group", "vectors", "expected"),
    [
        (1, 16, Share(1, 1, 16)),
        (4, 128, Share(4, 1, 32)),
        (5, 16, Share(5, 1, 3)),
        (80, 16, Share(16, 5, 1)),
        (20, 16, Share(16, 2, 1)),
    ],
)
def test_heads_are_packed_with_positions(group: int, vectors: int, expected: Share) -> None:
    assert share(group, vectors) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("head_dim", range(16, 257, 16))
def test_every_head_has_tiles(dtype: torch.dtype, head_dim: int) -> None:
    sizes = tiles(needs(dtype, head_dim=head_dim))
    assert sizes.segment % sizes.keys == 0
    assert min(sizes.keys, sizes.long_queries, sizes.short_queries) >= 16  # the least that tl.dot takes


def test_layout_spells_extents_and_shares_work_out() -> None:
    table = PageTable(
        np.array([[7, 2, 0], [11, 20, 40]], np.int32),
        np.array([[2, 3, 0], [1, 6, 2]], np.int32),
        np.array([0, 1], np.int32),
    )
    layout = BatchLayout(np.array([0, 140], np.int32), np.array([70, 3], np.int32), table)
    work = lay_out(layout, needs(), SMALL)  # two heads a KV head: 16 positions of a long tile, 8 of a short one
    assert work.pages_I.tolist() == [7, 8, 2, 3, 4, 11, 20, 21, 22, 23, 24, 25, 40]  # 41 is held ahead
    assert work.rows_S4.tolist() == [[0, 0, 70, 0], [70, 140, 3, 4]]
    assert work.slots_T[[0, 15, 16, 32, 69]].tolist() == [7 * 16, 7 * 16 + 15, 8 * 16, 2 * 16, 4 * 16 + 5]
    assert work.slots_T[70:].tolist() == [40 * 16 + 12, 40 * 16 + 13, 40 * 16 + 14]
    assert work.tiles_L2.tolist() == [[0, 64], [0, 48], [0, 32], [0, 16], [0, 0]]
    assert work.items_J4.tolist() == [[1, 0, 0, 0], [1, 0, 1, 3], [1, 0, 2, 6]]
    assert work.merges_U4.tolist() == [[70, 140, 0, 3], [71, 141, 1, 3], [72, 142, 2, 3]]
    assert (work.partials, work.reach, work.last_page) == (9, 140 - 16 + 1, 40)


def test_segments_before_the_held_pages_are_no_work() -> None:
    table = PageTable(np.array([[3]], np.int32), np.array([[10]], np.int32), np.array([9], np.int32))
    work = lay_out(BatchLayout(np.array([299], np.int32), np.array([1], np.int32), table), needs(), SMALL)
    assert work.items_J4.tolist() == [[0, 0, 2, 0], [0, 0, 3, 1], [0, 0, 4, 2]]
    assert work.merges_U4.tolist() == [[0, 299, -2, 1]]


def test_a_step_of_nothing() -> None:
    nothing = np.zeros((0, 1), np.int32)
    layout = BatchLayout(nothing[:, 0], nothing[:, 0], PageTable(nothing, nothing, nothing[:, 0]))
    attention, storage = TritonAttention(needs(), None), spread(make_case(needs(), [(0, 1)]))
    step = attention.plan(layout)
    assert step.reach == UNBOUNDED
    empty = torch.empty(0, 4, 64)
    attention.write(step, empty[:, :2], empty[:, :2], storage.k_NGPD, storage.v_NGPD)
    assert attention.attend(step, empty, storage.k_NGPD, storage.v_NGPD, 1.0, None).shape == (0, 4, 64)


def test_one_buffer_holds_the_plan() -> None:
    layout = spread(make_case(needs(), [(0, 40), (90, 1)])).layout
    buffers = TritonAttention(needs(), None, SMALL).plan(layout).arrive()
    parts = [buffers.slots_T, buffers.pages_I, buffers.rows_S4, buffers.tiles_L2, buffers.items_J4, buffers.merges_U4]
    assert {part.untyped_storage().data_ptr() for part in parts} == {buffers.slots_T.untyped_storage().data_ptr()}
    assert all(part.data_ptr() % 16 == parts[0].data_ptr() % 16 for part in parts)
    assert all(part.dtype is torch.int32 for part in parts)


def test_steps_are_planned_into_buffers_that_stay() -> None:
    """What a CUDA graph needs: the same addresses and grids for every step, and rows that are not there do nothing."""
    shape = needs(head_dim=32)
    attention = TritonAttention(shape, None, SMALL)
    buffers = attention.reserve(StepSize.of_decode(4, 500, shape, SMALL))
    addresses = buffers.slots_T.data_ptr(), buffers.outs_RHD.data_ptr()
    for seed, spans in enumerate([[(100, 1), (63, 1), (200, 1), (0, 1)], [(64, 1), (10, 1)]]):
        case = make_case(shape, spans, seed=seed)
        expected, storage = run(attention, case), spread(case)
        step = attention.plan(storage.layout, into=buffers)
        q, k, v = (torch.full((4, heads, 32), float("nan")) for heads in (4, 2, 2))
        for row, (sequence, (start, _)) in enumerate(zip(case.sequences, spans, strict=True)):
            q[row], k[row], v[row] = sequence.q_LHD[start], sequence.k_LGD[start], sequence.v_LGD[start]
        attention.write(step, k, v, storage.k_NGPD, storage.v_NGPD)
        out = attention.attend(step, q, storage.k_NGPD, storage.v_NGPD, 32**-0.5, None)
        assert torch.equal(out[: len(spans)], expected)
    assert addresses == (buffers.slots_T.data_ptr(), buffers.outs_RHD.data_ptr())


def test_a_step_that_does_not_fit_is_refused_and_names_what_is_short() -> None:
    attention = TritonAttention(needs(), None, SMALL)
    buffers = attention.reserve(StepSize.of_decode(2, 100, needs(), SMALL))
    layout = spread(make_case(needs(), [(10, 1), (10, 1), (0, 30)])).layout
    with pytest.raises(ValueError, match=r"does not fit .*: 32 of 2 tokens, 3 of 2 rows, 2 of 0 tiles"):
        attention.plan(layout, into=buffers)


@pytest.mark.parametrize("seed", range(20))
def test_decode_steps_fit_what_was_counted_for_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spans = [(int(start), 1) for start in rng.integers(0, 300, rng.integers(1, 6))]
    size = StepSize.of_decode(len(spans), sum(start + 1 for start, _ in spans), needs(), SMALL)
    assert size.lack(lay_out(spread(make_case(needs(), spans)).layout, needs(), SMALL)) is None
    assert {field.name for field in fields(size)} >= {"tokens", "partials"}


@pytest.fixture
def make() -> Callable[[AttentionNeeds], TritonAttention]:
    return lambda shape: TritonAttention(shape, None, SMALL)


class TestAddresses(Addresses):
    pass


def test_scores_of_many_thousands() -> None:
    shape = needs(torch.float16, heads=2, kv_heads=1, head_dim=32)
    case = make_case(shape, [(100, 2), (0, 30)])
    for sequence in case.sequences:
        sequence.q_LHD.mul_(1000)
    actual, expected = run(TritonAttention(shape, None, SMALL), case), run(ReferenceAttention(shape), case)
    torch.testing.assert_close(actual, expected, **ROUNDED_WEIGHTS[torch.float16])


def test_rows_of_a_window_beside_others_read_their_own_pages() -> None:
    case = make_case(needs(), [(150, 1), (90, 3), (200, 20)], window=30, seed=4)
    together = run(TritonAttention(needs(), None, SMALL), case)
    each = [run(ReferenceAttention(needs()), alone(case, row)) for row in range(3)]
    torch.testing.assert_close(together, torch.cat(each), **ROUNDED_WEIGHTS[torch.float32])
