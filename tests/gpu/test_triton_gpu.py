"""Triton's kernels compiled, on a GPU: the suites that every backend runs, at the sizes that are used."""

from typing import ClassVar

import pytest
import torch

from cpu.kernel_cases import ROUNDED_WEIGHTS, make_case, needs, spread
from cpu.kernel_conformance import Conformance
from cpu.kernel_invariance import Invariance, same_bits
from cpu.kernel_subjects import Subject
from infergc.heap.moves import Move
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.triton.backend import TritonAttention
from infergc.kernels.triton.step import StepSize
from infergc.worker.devices.copies import kernel_copies
from samples.gpu_here import needs_kernels

pytestmark = needs_kernels
COMPILED = Subject(TritonAttention, TritonAttention.capabilities, device="cuda", tolerance=ROUNDED_WEIGHTS)


@pytest.fixture
def subject() -> Subject:
    """The compiled kernels."""
    return COMPILED


class TestCompiled(Conformance):
    """All cases, in all dtypes."""


class TestBits(Invariance):
    """At full size: decode and prefill use matrix instructions of different heights, whose bits have to agree."""

    chunks: ClassVar = [1, 16, 63, 7, 430, 64, 500, 19, 1500]

    @pytest.fixture(
        params=[(torch.float32, 64), (torch.float16, 64), (torch.bfloat16, 128), (torch.bfloat16, 80)], ids=str
    )
    def shape(self, request: pytest.FixtureRequest) -> AttentionNeeds:
        dtype, head_dim = request.param
        return needs(dtype, heads=8, kv_heads=2, head_dim=head_dim)


def test_a_graph_is_replayed_for_steps_planned_into_its_buffers() -> None:
    shape = COMPILED.on_device(make_case(needs(torch.bfloat16), [(0, 1)])).needs
    attention = TritonAttention(shape)
    buffers = attention.reserve(StepSize.of_decode(4, 4000, shape, attention.sizes))
    first = COMPILED.on_device(make_case(needs(torch.bfloat16), [(1000, 1), (63, 1), (2000, 1), (0, 1)]))
    storage = spread(first)
    q, k, v = (torch.zeros(4, heads, 64, dtype=torch.bfloat16, device="cuda") for heads in (4, 2, 2))
    step = attention.plan(storage.layout, into=buffers)

    def layer() -> torch.Tensor:
        attention.write(step, k, v, storage.k_NGPD, storage.v_NGPD)
        return attention.attend(step, q, storage.k_NGPD, storage.v_NGPD, 0.125, None)

    layer()  # compiled outside of the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = layer()
    for rows in (4, 2):
        case = make_case(needs(torch.bfloat16), first.spans[:rows])
        for row, (sequence, (start, _)) in enumerate(zip(case.sequences, case.spans, strict=True)):
            q[row], k[row], v[row] = sequence.q_LHD[start], sequence.k_LGD[start], sequence.v_LGD[start]
        placed = spread(COMPILED.on_device(case))
        storage.k_NGPD[: len(placed.k_NGPD)] = placed.k_NGPD
        storage.v_NGPD[: len(placed.v_NGPD)] = placed.v_NGPD
        attention.plan(placed.layout, into=buffers).arrive()
        graph.replay()
        same_bits(out[:rows].cpu(), COMPILED.run(case))


def test_moves_that_depend_on_each_other() -> None:
    ours = torch.randn(4, 2, 9, 2, 16, 128, dtype=torch.bfloat16, device="cuda")
    expected = ours.clone()
    moves = [(0, 1, 16), (1, 2, 7), (3, 0, 16), (4, 4, 3), (2, 5, 16), (6, 7, 1)]
    for src, dst, tokens in moves:
        expected[:, :, dst, :, :tokens] = expected[:, :, src, :, :tokens].clone()
    kernel_copies()(ours, [Move("copy", 0, *move) for move in moves])
    assert torch.equal(ours, expected)
