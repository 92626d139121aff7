"""Law 5 on a device that does everything late: no text differs, and without any one of the waits one does."""

from collections.abc import Callable
from typing import Any

import pytest

from cpu.families import make_family
from cpu.lazy_device import LazyDevice, lazily, lazy_executor
from cpu.lazy_scenes import MUTATIONS, SCENES, Mutation, Stage, copy, store
from cpu.lazy_streams import EXTREMES, LATE, DeviceError, Schedule, some_order
from infergc.config import EngineConfig, engine_config
from infergc.worker import executor as executor_module
from infergc.worker.factory import create_executor
from infergc.worker.memory import copier
from samples.lengths import at_length

Scene = Callable[[Stage], list[int]]
ORDERS = (*EXTREMES, *map(some_order, range(2)))
PLAYED = [(scene, order) for scene in SCENES for order in ORDERS]
FEW = [  # every scene late, and in one order more: each order comes
    (scene, order) for at, scene in enumerate(SCENES) for order in (LATE, ORDERS[1 + at % (len(ORDERS) - 1)])
]


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


@pytest.mark.parametrize(
    ("scene", "order"),
    [pytest.param(scene, order, id=f"{scene.__name__}-{order.name}") for scene, order in at_length(FEW, PLAYED)],
)
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

    def differs(order: Schedule) -> bool:
        try:
            return told(config, scene, order, mutation.device) != expected[scene]
        except DeviceError:  # an index that was not an index
            return True

    assert any(map(differs, EXTREMES))


@pytest.mark.parametrize("drains", [True, False])
def test_close_finishes_the_copies_of_a_step_that_was_never_begun(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch, drains: bool
) -> None:
    """The memory of the host tier goes with the executor; no step waits for these copies."""
    if not drains:
        monkeypatch.setattr(copier, "drain", lambda _: None)
    with lazily(LATE) as device:
        executor = lazy_executor(config, device)
        stage = Stage(executor)
        with monkeypatch.context() as patch:
            patch.setattr(executor._thread, "submit", _refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                stage.launch(stage.beside(store(0, 0)))
        executor.close()
        assert device.machine.is_idle == drains


@pytest.mark.parametrize("drains", [True, False])
def test_close_finishes_steps_that_nobody_waits_for(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch, drains: bool
) -> None:
    if not drains:
        monkeypatch.setattr(executor_module, "drain", lambda _: None)
    with lazily(LATE) as device:
        executor = lazy_executor(config, device)
        stage = Stage(executor)
        stage.launch(stage.beside(store(0, 0), copy(0, 1)))
        executor.close()
        assert device.machine.is_idle == drains


def _refuse(*_: Any) -> None:
    raise RuntimeError("can't start new thread")
