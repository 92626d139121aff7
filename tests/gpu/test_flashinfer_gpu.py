"""FlashInfer's own kernels, on a GPU: the suite that every backend runs, in the shapes that the library takes.

Run by themselves (``pytest tests/gpu``), as Triton's. A first run compiles the library's kernels and takes minutes.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpu.kernel_cases import ROUNDED_WEIGHTS, Case, make_case, needs, spread
from cpu.kernel_conformance import MIXED, Conformance, check
from cpu.kernel_subjects import REFERENCE, Subject
from infergc.kernels.api import AttentionBackend
from infergc.kernels.flashinfer import environment
from infergc.kernels.flashinfer.backend import FlashInferAttention

why_not = environment.unavailable()
pytestmark = [
    pytest.mark.skipif(why_not is not None, reason=why_not or ""),
    pytest.mark.filterwarnings("default"),  # the library's warnings are not ours to fix
]
HALVES = [torch.float16, torch.bfloat16]
LIBRARY = Subject(FlashInferAttention, FlashInferAttention.capabilities, device="cuda", tolerance=ROUNDED_WEIGHTS)


@pytest.fixture
def subject() -> Subject:
    """The library behind the seam."""
    return LIBRARY


class TestLibrary(Conformance):
    """All cases; those whose shapes the library does not take, in one that it does."""

    @pytest.mark.parametrize("dtype", HALVES, ids=str)
    @pytest.mark.parametrize("head_dim", [64, 128, 192, 256])
    def test_head_dims(self, subject: Subject, dtype: torch.dtype, head_dim: int) -> None:
        check(subject, needs(dtype, head_dim=head_dim), [(0, 70), (130, 1), (511, 3), (700, 300)], 400)

    @pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (3, 1), (6, 2), (8, 2), (16, 2), (5, 1), (80, 1)])
    def test_groups(self, subject: Subject, heads: int, kv_heads: int) -> None:
        check(subject, needs(subject.half, heads, kv_heads), [(100, 20), (600, 1)], 300)

    @pytest.mark.parametrize("page_tokens", [8, 16, 32, 64])
    @pytest.mark.parametrize("window", [None, 90])
    def test_page_sizes(self, subject: Subject, page_tokens: int, window: int | None) -> None:
        check(subject, needs(subject.half, page_tokens=page_tokens), MIXED, window)

    @pytest.mark.parametrize("length", [1, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 2049])
    def test_borders(self, subject: Subject, length: int) -> None:
        shape = needs(subject.half, heads=2, kv_heads=1)
        check(subject, shape, [(length - 1, 1), (length, 1), (length, 3)])

    @pytest.mark.parametrize("needle", [3, 700, 1200])
    def test_a_score_far_above_the_others(self, subject: Subject, needle: int) -> None:
        case = make_case(needs(torch.bfloat16, heads=4, kv_heads=1), [(1290, 10)])
        (sequence,) = case.sequences
        sequence.q_LHD.fill_(30.0)
        sequence.k_LGD[needle].fill_(30.0)
        torch.testing.assert_close(subject.run(case), sequence.v_LGD[needle].expand(10, 4, 64))

    @given(
        spans=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 300)), min_size=1, max_size=8),
        shape=st.builds(
            lambda dtype, group, kv_heads, head_dim, page: needs(dtype, group * kv_heads, kv_heads, head_dim, page),
            st.sampled_from(HALVES),
            st.integers(1, 8),
            st.integers(1, 3),
            st.sampled_from([64, 128]),
            st.sampled_from([8, 16, 32, 64]),
        ),
        window=st.one_of(st.none(), st.integers(1, 600)),
        seed=st.integers(0, 1 << 20),
    )
    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture],
    )
    def test_anything(self, subject: Subject, spans, shape, window, seed) -> None:
        check(subject, shape, spans, window, seed=seed)


def layers(backend: AttentionBackend, cases: list[Case], asked: list[tuple[float, int | None]]) -> list[torch.Tensor]:
    """Plan a step for each case, then compute layer by layer: the steps' layers by turns, nothing waited for."""
    storages = [spread(case) for case in cases]
    steps = [backend.plan(storage.layout) for storage in storages]
    inputs = []
    for case in cases:
        rows = list(zip(case.sequences, case.spans, strict=True))
        inputs.append(
            [
                torch.cat([getattr(s, name)[a : a + c] for s, (a, c) in rows]).to(case.needs.device)
                for name in ("q_LHD", "k_LGD", "v_LGD")
            ]
        )
    for step, (_, k, v), storage in zip(steps, inputs, storages, strict=True):
        backend.write(step, k, v, storage.k_NGPD, storage.v_NGPD)
    outs = [
        backend.attend(step, q, storage.k_NGPD, storage.v_NGPD, scale, window)
        for scale, window in asked
        for step, (q, _, _), storage in zip(steps, inputs, storages, strict=True)
    ]
    return [out.cpu() for out in outs]


def test_steps_in_flight_whose_layers_differ_in_scale_and_window() -> None:
    cases = [make_case(needs(torch.bfloat16), MIXED, seed=seed) for seed in range(3)]
    asked = [(0.125, None), (0.125, 30), (0.25, 64), (0.125, 30), (0.125, None)]
    backend = LIBRARY.backend(cases[0])
    for _ in range(3):  # wrappers are planned again while the device is still at work
        found = layers(backend, [LIBRARY.on_device(case) for case in cases], asked)
    expected = layers(REFERENCE.backend(cases[0]), cases, asked)
    for actual, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, wanted, **ROUNDED_WEIGHTS[torch.bfloat16])
