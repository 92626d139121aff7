"""``CudaDevice`` over streams that do everything late: its own code, with ``lazy_streams`` for CUDA's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cpu.lazy_streams import Event, Machine, Schedule
from cpu.lazy_tensors import PLACE, LazyMode, register, unregister
from infergc.config import EngineConfig
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.reference import ReferenceAttention, ReferenceRow, _gather
from infergc.kernels.torch_ops import TorchOps
from infergc.models.decoder import Decoder
from infergc.worker import factory
from infergc.worker.devices.copies import copy_runs
from infergc.worker.devices.cuda_device import CudaDevice
from infergc.worker.disk_link import DiskPlace
from infergc.worker.executor import TorchExecutor
from infergc.worker.loading.loader import load_weights, open_model


class LazyDevice(CudaDevice):
    """Every thread that enters has a stream of ``machine``. To be used within ``lazily``."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(records=False)
        self.machine = machine
        self.place = PLACE
        self._copies = copy_runs
        self._modes = threading.local()

    def enter(self) -> None:
        super().enter()
        if not hasattr(self._modes, "own"):
            self._modes.own = LazyMode(self.machine)
            self._modes.own.__enter__()  # until the thread ends


@contextmanager
def lazily(schedule: Schedule, kind: type[LazyDevice] = LazyDevice) -> Iterator[LazyDevice]:
    """A device whose streams follow a schedule, in place of CUDA's. The caller has the default one."""
    machine = Machine(schedule)
    with pytest.MonkeyPatch.context() as patch:
        for name, stand_in in _stand_ins(machine).items():
            patch.setattr(torch.cuda, name, stand_in)
        with LazyMode(machine):
            yield kind(machine)


def _stand_ins(machine: Machine) -> dict[str, Any]:
    """What ``CudaDevice`` uses of ``torch.cuda``."""

    def host_register(address: int, size: int, flags: int) -> int:
        register(address)
        return 0

    return {
        "Event": lambda enable_timing: Event(machine),  # noqa: ARG005 - CUDA's
        "Stream": machine.stream,
        "current_stream": machine.current,
        "set_stream": machine.use,
        "set_device": lambda place: None,  # noqa: ARG005 - there is one
        "synchronize": machine.synchronize,
        "cudart": lambda: SimpleNamespace(cudaHostRegister=host_register, cudaHostUnregister=unregister),
    }


class RowAttention(ReferenceAttention):
    """The reference's, but all queries of a row at once: a tenth of the operations."""

    def attend(
        self,
        step: list[ReferenceRow],
        q_THD: torch.Tensor,
        k_NGPD: torch.Tensor,
        v_NGPD: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        out_THD = torch.empty_like(q_THD, memory_format=torch.contiguous_format)
        heads = q_THD.shape[1] // k_NGPD.shape[1]
        for row in step:
            k_HKD, v_HKD = (_gather(row, x_NGPD).repeat_interleave(heads, 0) for x_NGPD in (k_NGPD, v_NGPD))
            at_K = torch.arange(row.held_from, row.start + row.count, device=q_THD.device)
            from_C = at_K[row.start - row.held_from :].unsqueeze(1) - at_K  # how far back a query looks at each key
            seen_CK = (from_C >= 0) & (from_C < (window or len(at_K)))
            rows = slice(row.first, row.first + row.count)
            weights_HCK = scale * (q_THD[rows].transpose(0, 1).float() @ k_HKD[:, : len(at_K)].transpose(1, 2))
            weights_HCK = weights_HCK.masked_fill(~seen_CK, float("-inf")).softmax(-1)
            out_THD[rows] = (weights_HCK @ v_HKD[:, : len(at_K)]).transpose(0, 1)
        return out_THD


def lazy_executor(config: EngineConfig, device: LazyDevice) -> TorchExecutor:
    """As ``factory.create_executor`` makes one on a GPU, without a rehearsal. Of the kernels all are torch's."""
    source = open_model(config.model, config.dtype)
    decoder = Decoder(source.spec, load_weights(source, device.place), TorchOps())
    executor = factory._executor(config, source, decoder, CpuThreads(1), device)
    executor.attention = RowAttention(executor.attention._needs)
    executor.facts = replace(executor.facts, granted=1 << 30)
    if config.disk_cache_dir is not None:
        executor.disk = DiskPlace(config.disk_cache_dir, config.disk_cache_size)
    return executor
