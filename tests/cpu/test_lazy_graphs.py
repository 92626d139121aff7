"""Recorded decode steps on a device that does everything late: tables change in place, and each step reads its own."""

from typing import Any

import pytest
import torch

from cpu.families import make_family
from cpu.lazy_device import lazily
from cpu.lazy_graphs import RecordingDevice, recording_executor
from cpu.lazy_scenes import TEXT, Stage
from cpu.lazy_streams import EARLY, LATE, Schedule, some_order
from cpu.plans import Row
from infergc.config import EngineConfig, engine_config
from infergc.kernels.triton import step
from infergc.sched.plan import FROM_DEVICE
from infergc.worker.factory import create_executor

STEPS = 16  # the text goes on to a page that it did not have when the first was recorded


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    directory = make_family("llama3", tmp_path_factory.mktemp("model"), num_hidden_layers=2)
    return engine_config(model=directory, dtype="float32", threads=1, attention_backend="reference")


@pytest.fixture(scope="module")
def expected(config: EngineConfig) -> list[int]:
    """What the host says."""
    executor = create_executor(config)
    said = launched_together(Stage(executor))
    executor.close()
    return said


def launched_together(stage: Stage) -> list[int]:
    """All steps are given before one is waited for; a second text comes half way, and both are told."""
    other = TEXT[::-1]
    plans = [[Row(0, 0, TEXT, sample=True)], [Row(2, 0, other, sample=True)]]
    for at in range(STEPS):
        rows = [Row(0, len(TEXT) + at, [FROM_DEVICE], sample=True)]
        if at >= STEPS // 2:
            rows.append(Row(2, len(other) + at - STEPS // 2, [FROM_DEVICE], sample=True))
        plans.append(rows)
    flights = [stage.launch(stage.plan(rows)) for rows in plans]
    flights[-1].result()
    return [int(token) for flight in flights for token in flight.result().tokens]


def told(config: EngineConfig, order: Schedule) -> tuple[list[int], RecordingDevice]:
    with lazily(order, RecordingDevice) as device:
        assert isinstance(device, RecordingDevice)
        executor = recording_executor(config, device)
        device.machine.host_waits.clear()  # weights were copied
        try:
            return launched_together(Stage(executor)), device
        finally:
            executor.close()
            assert not device.machine.crossed


def test_the_text_is_one_that_varies(expected: list[int]) -> None:
    assert len(set(expected)) > 3


@pytest.mark.parametrize("order", [LATE, EARLY, some_order(0)], ids=lambda order: order.name)
def test_steps_in_flight_read_their_own_tables(config: EngineConfig, expected: list[int], order: Schedule) -> None:
    said, device = told(config, order)
    assert said == expected
    assert device.replayed >= STEPS - 4
    assert device.machine.host_waits == []


def test_a_table_that_the_host_writes_in_place_would_show(
    config: EngineConfig, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of in the stream's order: steps that are still to be computed read a later one's."""
    packed: list[Any] = []
    ready: list[step.StepBuffers] = []
    pack, fill = step.pack, step.StepBuffers.fill

    def kept(*args: Any) -> Any:
        packed.append(pack(*args))
        return packed[-1]

    def fill_at_once(buffers: Any, ints: torch.Tensor) -> None:
        if buffers not in ready:  # what lies there at first would come later, and is no page's number
            ready.append(buffers)
            fill(buffers, ints)
            torch.cuda.synchronize()
        buffers._all.held.copy_(torch.from_numpy(packed[-1]))

    monkeypatch.setattr(step, "pack", kept)
    monkeypatch.setattr(step.StepBuffers, "fill", fill_at_once)
    said, _ = told(config, LATE)
    assert said != expected
