"""The copier: when transfers are made, and what happens where threads cannot be had any more."""

from threading import Thread
from typing import Any

import pytest
import torch

from cpu.kv_store import model_of
from infergc.heap.errors import StorageLost
from infergc.heap.groups import GroupSpec
from infergc.heap.moves import Move
from infergc.worker.devices.device import HostDevice
from infergc.worker.memory.copier import Copier, Moving
from infergc.worker.memory.storage import KVStorage, LayerGroups

GROUP = GroupSpec("full", 1000, None, 8)


def storage() -> KVStorage:
    return KVStorage(model_of(2, torch.float32), LayerGroups((GROUP,), (0, 0)), (GROUP,), 8, host_slots=4)


def store(page: int, slot: int) -> Move:
    return Move("store", 0, page, slot, 8)


def test_what_is_copied_waits_for_the_moves_before() -> None:
    kv, moved = storage(), Moving()
    copier = Copier(kv, HostDevice())
    copied = copier.start((store(3, 1),), moved)
    kv.layer(1)[0][3] = 7.0  # a move of the step before
    assert not copied.done()
    moved.made = True
    moved.over.set()
    assert copied.result().size == 2 * kv.layer(0)[0][3].nbytes * 2
    assert bool((kv.host.run(0, 1, 1)[1, 0] == 7.0).all())
    copier.close()


def test_where_the_moves_before_were_not_made_storage_is_lost() -> None:
    """A page may have been stored from where it never went."""
    kv, moved = storage(), Moving()
    copier = Copier(kv, HostDevice())
    copied = copier.start((store(3, 1),), moved)
    moved.over.set()
    with pytest.raises(StorageLost, match="the moves of the step before were not made"):
        copied.result()
    copier.close()


def test_a_step_is_launched_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that cannot be launched fails, and its moves with it: nobody would make up for them."""
    kv, moved = storage(), Moving()
    copier = Copier(kv, HostDevice())
    moved.made = True
    moved.over.set()

    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refuse)
    assert copier.start((store(0, 0),), moved).result().size > 0
    copier.close()
