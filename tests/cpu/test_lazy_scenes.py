"""Law 5 on a device that does everything late: no text differs, and without any one of the waits one does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cpu.families import make_family
from cpu.lazy_scenes import CLOSES_AT_ONCE, MUTATIONS, SCENES, Mutation, Stage, store
from infergc.config import EngineConfig, engine_config
from infergc.worker.factory import create_executor
from samples.lazy_device import LazyDevice, lazily, lazy_executor
from samples.lazy_streams import EXTREMES, LATE, DeviceFailed, Schedule, some_order

Scene = Callable[[Stage], list[int]]
ORDERS = (*EXTREMES, *map(some_order, range(4)))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    directory = make_family("llama3", tmp_path_factory.mktemp("model"), num_hidden_layers=2)
    return engine_config(model=directory, dtype="float32", threads=1, attention_backend="reference")


@pytest.fixture(scope="module")
def expected(config: EngineConfig) -> dict[Scene, list[int]]:
    """What the host says."""
    said = {}
    for scene in SCENES:
        executor = create_executor(config)
        said[scene] = scene(Stage(executor))
        executor.close()
    return said


def told(config: EngineConfig, scene: Scene, order: Schedule, kind: type[LazyDevice] = LazyDevice) -> list[int]:
    with lazily(order, kind) as device:
        executor = lazy_executor(config, device)
        try:
            return scene(Stage(executor))
        finally:
            executor.close()
            assert not device.machine.crossed


def test_scenes_tell_texts_that_vary(expected: dict[Scene, list[int]]) -> None:
    assert all(len(set(said)) > 3 for said in expected.values())
    assert len({tuple(said) for scene, said in expected.items() if len(said) == 6}) == 1, "all of one text"


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_the_order_of_streams_changes_nothing(
    config: EngineConfig, expected: dict[Scene, list[int]], scene: Scene, order: Schedule
) -> None:
    assert told(config, scene, order) == expected[scene]


@pytest.mark.parametrize(
    ("mutation", "scene"),
    [pytest.param(each, scene, id=f"{each.name}-{scene.__name__}") for each in MUTATIONS for scene in each.scenes],
)
def test_without_a_wait_a_text_differs(
    config: EngineConfig,
    expected: dict[Scene, list[int]],
    mutation: Mutation,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for owner, name, instead in mutation.patches:
        monkeypatch.setattr(owner, name, instead)
    found = []
    for order in EXTREMES:
        try:
            found.append(told(config, scene, order, mutation.device))
        except DeviceFailed:  # an index that was not an index
            found.append([])
    assert any(said != expected[scene] for said in found)
