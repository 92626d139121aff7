"""What is demanded of a backend that hands out addresses: it writes where it should, and refuses what lies elsewhere.

For a GPU's backends, whose tests inherit this; ``make`` is to be a fixture.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from cpu.kernel_cases import Storage, inputs, make_case, needs, run, spread
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.reference import ReferenceAttention

Make = Callable[[AttentionNeeds], Any]


def attend(make: Make, storage: Storage, q_THD: torch.Tensor, scale: float = 1.0) -> None:
    attention = make(needs())
    attention.attend(attention.plan(storage.layout), q_THD, storage.k_NGPD, storage.v_NGPD, scale, None)


class Addresses:
    """In float32 and float16, at head dims that all of them take."""

    def test_writes_go_to_their_slots_and_nowhere_else(self, make: Make) -> None:
        shape = needs(torch.float16, heads=3, kv_heads=3, head_dim=64)
        case = make_case(shape, [(3, 20), (0, 5), (31, 1)])
        expected, actual, (_, k, v) = spread(case), spread(case), inputs(case)
        for backend, storage in ((ReferenceAttention(shape), expected), (make(shape), actual)):
            backend.write(backend.plan(storage.layout), k, v, storage.k_NGPD, storage.v_NGPD)
        for name in ("k_NGPD", "v_NGPD"):
            assert torch.equal(getattr(actual, name).view(torch.int16), getattr(expected, name).view(torch.int16))

    def test_slices_of_a_fused_projection(self, make: Make) -> None:
        case = make_case(needs(heads=4, kv_heads=2, head_dim=64), [(0, 30)])
        attention, storage = make(case.needs), spread(case)
        fused = torch.cat([x.flatten(1) for x in vars(case.sequences[0]).values()], 1)
        q, k, v = (x.unflatten(1, (-1, 64)) for x in fused.split([256, 128, 128], dim=1))
        step = attention.plan(storage.layout)
        attention.write(step, k, v, storage.k_NGPD, storage.v_NGPD)
        out = attention.attend(step, q, storage.k_NGPD, storage.v_NGPD, 64**-0.5, None)
        assert torch.equal(out, run(attention, case))

    @pytest.mark.parametrize("wrong", ["dtype", "heads", "tokens", "strides"])
    def test_wrong_tensors_are_refused(self, make: Make, wrong: str) -> None:
        case = make_case(needs(), [(0, 4)])
        q = case.sequences[0].q_LHD
        made = {"dtype": q.bfloat16(), "heads": q[:, :3], "tokens": q[:3]}
        made["strides"] = q.transpose(1, 2).contiguous().transpose(1, 2)
        with pytest.raises(ValueError, match=r"expected torch.float32 \[4, 4, 64\]"):
            attend(make, spread(case), made[wrong])

    @pytest.mark.parametrize("wrong", ["dtype", "heads", "tokens", "strides"])
    def test_wrong_tensors_are_not_written(self, make: Make, wrong: str) -> None:
        case = make_case(needs(), [(0, 4)])
        k, storage, attention = case.sequences[0].k_LGD, spread(case), make(needs())
        made = {"dtype": k.bfloat16(), "heads": k[:, :1], "tokens": k[:3]}
        made["strides"] = k.transpose(1, 2).contiguous().transpose(1, 2)
        with pytest.raises(ValueError, match=r"expected torch.float32 \[4, 2, 64\]"):
            attention.write(attention.plan(storage.layout), k, made[wrong], storage.k_NGPD, storage.v_NGPD)

    @pytest.mark.parametrize("scale", [0.0, -1.0])
    def test_scales_are_positive(self, make: Make, scale: float) -> None:
        with pytest.raises(ValueError, match="the scale of scores is positive"):
            attend(make, spread(make_case(needs(), [(0, 4)])), torch.zeros(4, 4, 64), scale)

    def test_pages_of_another_shape_or_beyond_storage_are_refused(self, make: Make) -> None:
        storage, q = spread(make_case(needs(), [(100, 1)])), torch.zeros(1, 4, 64)
        with pytest.raises(ValueError, match=r"expected contiguous torch\.float32 pages"):
            attend(make, replace(storage, k_NGPD=storage.k_NGPD.half()), q)
        with pytest.raises(ValueError, match="a page that storage does not have"):
            attend(make, replace(storage, v_NGPD=storage.v_NGPD[:1]), q)

    def test_the_widest_window_that_reads_no_released_page(self, make: Make) -> None:
        case = make_case(needs(), [(100, 1)], window=10, seed=3)
        storage = spread(case)
        skipped = int(storage.layout.table.skipped[0])
        assert skipped > 0
        widest = 100 - 16 * skipped + 1
        assert not run(make(needs()), replace(case, window=widest), storage).isnan().any()
        for window in (widest + 1, None):
            with pytest.raises(ValueError, match="a row's window reaches into pages that its table has released"):
                run(make(needs()), replace(case, window=window), storage)
