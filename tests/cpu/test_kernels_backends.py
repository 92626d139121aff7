"""Choosing a backend, and what the backends refuse."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cpu.kernel_cases import make_case, needs, run, spread
from cpu.kernel_isas import ISAS
from infergc.config import ConfigError
from infergc.kernels import registry
from infergc.kernels.api import BatchLayout
from infergc.kernels.cpu import library
from infergc.kernels.cpu.backend import CpuAttention
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.reference import ReferenceAttention
from infergc.sched.plan import PageTable

compiled = pytest.mark.skipif(not library.PATH.exists(), reason="the C++ kernels are not compiled")
BACKENDS = [pytest.param(CpuAttention, marks=compiled), ReferenceAttention]


@pytest.fixture
def nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    library.load.cache_clear()
    monkeypatch.setattr(library, "PATH", tmp_path / "none.so")
    yield
    library.load.cache_clear()


@compiled
def test_auto_takes_the_kernels_in_silence(caplog) -> None:
    assert registry.create_attention("auto", needs(), CpuThreads(1)).name == "cpu"
    assert caplog.records == []


def test_auto_without_kernels_warns_and_says_how_to_build(nothing_compiled, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert registry.create_attention("auto", needs(), CpuThreads(1)).name == "reference"
    assert "slow" in caplog.text
    assert "build_ext --inplace" in caplog.text


def test_asked_for_kernels_that_are_not_there(nothing_compiled) -> None:
    with pytest.raises(ConfigError, match=r"--attention-backend: cpu cannot run: .*not compiled.*build_ext"):
        registry.create_attention("cpu", needs(), CpuThreads(1))


def test_a_library_that_does_not_load(nothing_compiled) -> None:
    library.PATH.write_bytes(b"not a library")
    with pytest.raises(ConfigError, match="does not load"):
        registry.create_attention("cpu", needs(), CpuThreads(1))


def test_unknown_backend() -> None:
    with pytest.raises(ConfigError, match="--attention-backend: 'flash' is not one of auto, triton, cpu, reference"):
        registry.create_attention("flash", needs(), CpuThreads(1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "cuda"}, "device cuda is not among cpu"),
        ({"dtype": torch.float64}, "dtype torch.float64 is not among"),
        ({"head_dim": 60}, "head dim 60 is not a multiple of 8 up to 256"),
        ({"head_dim": 512}, "head dim 512 is not a multiple of 8 up to 256"),
        ({"page_tokens": 12}, "page size 12 is not among"),
    ],
)
def test_kernels_refuse_by_reason(change, reason: str, caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(needs(), **change)
    with pytest.raises(ConfigError, match=reason):
        registry.create_attention("cpu", asked, CpuThreads(1))
    with monkeypatch.context() as on_any_machine:
        on_any_machine.setattr(torch.cuda, "is_available", lambda: False)
        assert registry.create_attention("auto", asked, CpuThreads(1)).name == "reference"
    assert reason in caplog.text


@compiled
def test_unknown_instruction_set() -> None:
    with pytest.raises(ValueError, match=r"'sse9' does not run here; these do: .*portable"):
        CpuAttention(needs(), CpuThreads(1), "sse9")


@compiled
def test_auto_never_takes_the_emulation() -> None:
    assert CpuAttention(needs(), CpuThreads(1)).isa == next(name for name, runs in library.variants().items() if runs)
    assert CpuAttention(needs(), CpuThreads(1)).isa != "emulated512"


@pytest.mark.parametrize("kind", BACKENDS)
def test_short_tables_are_refused(kind) -> None:
    one_page = PageTable(np.zeros((2, 1), np.int32), np.ones((2, 1), np.int32), np.zeros(2, np.int32))
    layout = BatchLayout(np.array([15, 16], np.int32), np.array([1, 1], np.int32), one_page)
    with pytest.raises(ValueError, match=r"row 1 computes positions 16 … 16"):
        kind(needs(), CpuThreads(1)).plan(layout)


@pytest.mark.parametrize("kind", BACKENDS)
def test_released_pages_are_not_read(kind) -> None:
    case = make_case(needs(), [(100, 1)], window=10, seed=3)
    storage = spread(case)
    assert storage.layout.table.skipped[0] > 0
    with pytest.raises(ValueError, match=r"released|begins at"):
        run(kind(needs(), CpuThreads(1)), replace(case, window=None), storage)


@compiled
def test_pages_beyond_storage_are_refused() -> None:
    case = make_case(needs(), [(100, 1)])
    storage = spread(case)
    for tensor in ("k_NGPD", "v_NGPD"):
        setattr(storage, tensor, getattr(storage, tensor)[:1])
    with pytest.raises(ValueError, match="a page that storage does not have"):
        run(CpuAttention(needs(), CpuThreads(1)), case, storage)


@compiled
@pytest.mark.parametrize("wrong", ["dtype", "heads", "tokens", "strides"])
def test_wrong_tensors_are_refused(wrong: str) -> None:
    case = make_case(needs(), [(0, 4)])
    storage, attention = spread(case), CpuAttention(needs(), CpuThreads(1))
    q = case.sequences[0].q_LHD
    made = {"dtype": q.bfloat16(), "heads": q[:, :3], "tokens": q[:3], "strides": q.transpose(1, 2).contiguous()}
    made["strides"] = made["strides"].transpose(1, 2)
    with pytest.raises(ValueError, match=r"expected torch.float32 \[4, 4, 64\]"):
        attention.attend(attention.plan(storage.layout), made[wrong], storage.k_NGPD, storage.v_NGPD, 1.0, None)


@pytest.mark.parametrize("isa", ISAS)
def test_slices_of_a_fused_projection(isa: str) -> None:
    shape = needs(heads=4, kv_heads=2, head_dim=32)
    case = make_case(shape, [(0, 50)])
    expected = run(CpuAttention(shape, CpuThreads(1), isa), case)
    fused = torch.cat([x.flatten(1) for x in vars(case.sequences[0]).values()], 1)
    q, k, v = (x.unflatten(1, (-1, 32)) for x in fused.split([128, 64, 64], dim=1))
    assert not q.is_contiguous()
    attention, storage = CpuAttention(shape, CpuThreads(1), isa), spread(case)
    step = attention.plan(storage.layout)
    attention.write(step, k, v, storage.k_NGPD, storage.v_NGPD)
    assert torch.equal(attention.attend(step, q, storage.k_NGPD, storage.v_NGPD, 32**-0.5, None), expected)


@compiled
def test_a_large_write_is_shared_out() -> None:
    shape = needs(heads=8, kv_heads=8, head_dim=128)
    case = make_case(shape, [(3, 700), (0, 90)])
    expected, actual = spread(case), spread(case)
    for backend, storage in ((ReferenceAttention(shape), expected), (CpuAttention(shape, CpuThreads(3)), actual)):
        rows = list(zip(case.sequences, case.spans, strict=True))
        k, v = (torch.cat([getattr(s, n)[a : a + c] for s, (a, c) in rows]) for n in ("k_LGD", "v_LGD"))
        backend.write(backend.plan(storage.layout), k, v, storage.k_NGPD, storage.v_NGPD)
    assert torch.equal(actual.k_NGPD.nan_to_num(9e9), expected.k_NGPD.nan_to_num(9e9))
    assert torch.equal(actual.v_NGPD.nan_to_num(9e9), expected.v_NGPD.nan_to_num(9e9))
