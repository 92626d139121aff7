"""FlashInfer's backend with the library's documented contract in torch, and Triton's interpreter for its writes.

What is shown here is what the backend says to the library and makes of its answers; tests/gpu runs the library.
"""

import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from cpu import flashinfer_contract as contract
from cpu.kernel_addresses import Addresses
from cpu.kernel_cases import Case, inputs, make_case, needs, run, spread
from cpu.kernel_conformance import MIXED, Conformance, Spans, anything, check
from cpu.kernel_subjects import REFERENCE, Subject
from infergc.config import ConfigError
from infergc.kernels import registry
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.capabilities import Capabilities
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.flashinfer import environment
from infergc.kernels.flashinfer.backend import FlashInferAttention

LANES = "infergc.kernels.flashinfer.lanes"
GPU = replace(needs(torch.bfloat16), device="cuda")


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[contract.BatchPrefillWithPagedKVCacheWrapper]]:
    """The wrappers that the backend has made, of a library that is its contract."""
    monkeypatch.setitem(sys.modules, "flashinfer", contract.library())
    monkeypatch.setattr(torch.cuda, "Event", contract.Event)
    monkeypatch.delitem(sys.modules, LANES, raising=False)
    yield contract.BatchPrefillWithPagedKVCacheWrapper.made
    sys.modules.pop(LANES, None)


@pytest.fixture
def subject() -> Subject:
    """The backend on the CPU, where the library's limits do not hold."""
    return Subject(lambda shape, _: FlashInferAttention(shape), Capabilities())


class TestContract(Conformance):
    """All cases; of those that hypothesis draws, some."""

    @anything(8)
    def test_anything(
        self, subject: Subject, spans: Spans, shape: AttentionNeeds, window: int | None, threads: int, seed: int
    ) -> None:
        check(subject, shape, spans, window, threads, seed)


def by_reference(case: Case, scale: float, window: int | None) -> torch.Tensor:
    storage, reference = spread(case), REFERENCE.backend(case)
    q, k, v = inputs(case)
    step = reference.plan(storage.layout)
    reference.write(step, k, v, storage.k_NGPD, storage.v_NGPD)
    return reference.attend(step, q, storage.k_NGPD, storage.v_NGPD, scale, window)


def test_layers_of_one_step_may_differ_in_scale_and_window(library) -> None:
    case = make_case(needs(), MIXED)
    attention, storage = FlashInferAttention(needs()), spread(case)
    step, (q, k, v) = attention.plan(storage.layout), inputs(case)
    attention.write(step, k, v, storage.k_NGPD, storage.v_NGPD)
    settings = [(0.125, None), (0.125, 30), (0.25, 30), (0.125, 30), (0.125, None)]
    found = [attention.attend(step, q, storage.k_NGPD, storage.v_NGPD, *setting) for setting in settings]
    for setting, out in zip(settings, found, strict=True):
        torch.testing.assert_close(out, by_reference(case, *setting), rtol=1e-5, atol=1e-5)
    assert torch.equal(found[1], found[3])
    assert not torch.equal(found[1], found[2])
    planned = [(plan["sm_scale"], plan["window_left"]) for wrapper in library for plan in wrapper.plans]
    assert sorted(planned) == sorted([(0.125, -1), (0.125, 29), (0.25, 29)] * 2), "once each, for rows of each kind"


def test_rows_of_one_token_and_of_more_have_wrappers_of_their_own(library) -> None:
    attention = FlashInferAttention(needs())
    run(attention, make_case(needs(), [(40, 1), (7, 1)]))
    assert [wrapper.backend for wrapper in library] == ["fa2"]
    run(attention, make_case(needs(), [(40, 3)]))
    assert [wrapper.backend for wrapper in library] == ["fa2", "auto"]
    run(attention, make_case(needs(), MIXED))
    gc.collect()
    assert [(wrapper.backend, len(wrapper.plans)) for wrapper in library] == [("fa2", 2), ("auto", 2)]


def test_steps_that_are_alive_share_no_wrapper(library) -> None:
    attention = FlashInferAttention(needs())
    cases = [make_case(needs(), [(40, 1), (9, 4)]), make_case(needs(), [(100, 1), (20, 30)], seed=5)]
    storages = [spread(case) for case in cases]
    steps = [attention.plan(storage.layout) for storage in storages]
    for index in (0, 1, 0):  # the second step's plans do not disturb the first's
        (q, k, v), storage = inputs(cases[index]), storages[index]
        attention.write(steps[index], k, v, storage.k_NGPD, storage.v_NGPD)
        out = attention.attend(steps[index], q, storage.k_NGPD, storage.v_NGPD, 0.125, None)
        torch.testing.assert_close(out, by_reference(cases[index], 0.125, None), rtol=1e-5, atol=1e-5)
    assert len(library) == 4
    steps.clear()
    gc.collect()
    run(attention, cases[0])
    assert len(library) == 4, "wrappers of steps that are gone are taken again"


def test_a_plan_waits_for_the_copy_of_the_last() -> None:
    """The contract fails a plan that does not; here the wait is left out, to see that it does."""
    attention, case = FlashInferAttention(needs()), make_case(needs(), [(40, 1)])
    run(attention, case)
    run(attention, case)
    contract.Event.synchronize, kept = lambda _: None, contract.Event.synchronize
    try:
        with pytest.raises(AssertionError, match="overwrites one that may be under way"):
            run(attention, case)
    finally:
        contract.Event.synchronize = kept


def test_a_plan_that_failed_is_waited_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    attention, case = FlashInferAttention(needs()), make_case(needs(), [(40, 1)])
    planned = contract.BatchPrefillWithPagedKVCacheWrapper.plan

    def fails(self, *args, **settings) -> None:
        planned(self, *args, **settings)
        raise RuntimeError("out of workspace")

    with monkeypatch.context() as failing:
        failing.setattr(contract.BatchPrefillWithPagedKVCacheWrapper, "plan", fails)
        with pytest.raises(RuntimeError, match="out of workspace"):
            run(attention, case)
    gc.collect()
    run(attention, case)
    assert len(contract.BatchPrefillWithPagedKVCacheWrapper.made) == 1


def test_a_step_of_nothing(library) -> None:
    storage = spread(make_case(needs(), [(0, 1)]))
    layout, table = storage.layout, storage.layout.table
    nothing = replace(
        layout,
        starts=layout.starts[:0],
        counts=layout.counts[:0],
        table=replace(table, first=table.first[:0], pages=table.pages[:0], skipped=table.skipped[:0]),
    )
    attention, empty = FlashInferAttention(needs()), torch.empty(0, 4, 64)
    step = attention.plan(nothing)
    attention.write(step, empty[:, :2], empty[:, :2], storage.k_NGPD, storage.v_NGPD)
    assert attention.attend(step, empty, storage.k_NGPD, storage.v_NGPD, 1.0, None).shape == (0, 4, 64)
    assert library == []


@pytest.fixture
def make() -> type[FlashInferAttention]:
    return FlashInferAttention


class TestAddresses(Addresses):
    pass


def in_a_fresh_process(script: str) -> str:
    """What a script prints in a process that has not imported anything of this one."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_neither_the_library_nor_triton_is_imported_to_say_what_it_takes() -> None:
    printed = in_a_fresh_process(
        "import sys\n"
        "from infergc.kernels.flashinfer.backend import FlashInferAttention\n"
        "print(FlashInferAttention.unavailable() is None, FlashInferAttention.capabilities.by_name_only)\n"
        f"print([name for name in ('flashinfer', 'triton', '{LANES}') if name in sys.modules])\n"
    )
    assert printed.splitlines() == ["False True", "[]"]


def test_auto_passes_it_over(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(environment, "unavailable", lambda: None)
    monkeypatch.setattr(registry, "BACKENDS", {name: registry.BACKENDS[name] for name in ("flashinfer", "reference")})
    assert registry.create_attention("auto", GPU, CpuThreads(1)).name == "reference"
    assert "flashinfer: only when asked for by name" in caplog.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "cpu"}, "device cpu is not among cuda"),
        ({"dtype": torch.float32}, "dtype torch.float32 is not among torch.bfloat16, torch.float16"),
        ({"head_dim": 96}, "head dim 96 is not a multiple of 64 up to 256"),
        ({"head_dim": 512}, "head dim 512 is not a multiple of 64 up to 256"),
        ({"page_tokens": 128}, "page size 128 is not among"),
        ({}, r"flashinfer is not installed; pip install 'infergc\[flashinfer\]'"),
    ],
)
def test_what_it_does_not_take(change, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=f"--attention-backend: flashinfer cannot run: {reason}"):
        registry.create_attention("flashinfer", replace(GPU, **change), CpuThreads(1))


def test_why_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def reason() -> str | None:
        return FlashInferAttention.unavailable()

    monkeypatch.setattr(environment, "find_spec", lambda _: None)
    assert "flashinfer is not installed" in (reason() or "")
    monkeypatch.setattr(environment, "find_spec", lambda _: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch sees no CUDA device" in (reason() or "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "TRITON_INTERPRET is set" in (reason() or "")
    monkeypatch.setattr(environment.triton, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "compute capability is 7.5, and at least 8.0" in (reason() or "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert reason() is None
    monkeypatch.setattr(environment.triton, "find_spec", lambda _: None)
    assert "triton is not installed" in (reason() or "")
