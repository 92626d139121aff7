"""Recorded decode steps on a device that does everything late: Triton's kernels, interpreted when it comes to them.

What was recorded is given again as it was: the same tensors at the same places, whatever lies there by then.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cpu.lazy_device import LazyDevice, lazy_executor
from cpu.lazy_streams import Machine
from cpu.lazy_tensors import LazyTensor
from cpu.triton_interpreter import TritonAttention
from infergc.config import EngineConfig
from infergc.worker.executor import TorchExecutor


class Launches:
    """Stands for a module of kernels: ``launches.name[grid](...)`` is given to the calling thread's stream."""

    def __init__(self, machine: Machine, kernels: Any) -> None:
        self._machine = machine
        self._kernels = kernels

    def __getattr__(self, name: str) -> "_Kernel":
        return _Kernel(self._machine, getattr(self._kernels, name))


class _Kernel:
    def __init__(self, machine: Machine, kernel: Any) -> None:
        self._machine = machine
        self._kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*args: Any, **constants: Any) -> None:
            held = [arg.held if isinstance(arg, LazyTensor) else arg for arg in args]
            self._machine.give(lambda: self._kernel[grid](*held, **constants))

        return launch


class RecordingDevice(LazyDevice):
    """Its steps are recorded, and given again.

    Attributes:
        replayed: how often.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.records = True
        self.replayed = 0

    def recorder(self) -> Any:
        return self

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        pieces = self.machine.recorded(work)

        def replay() -> None:
            self.replayed += 1
            for piece in pieces:
                self.machine.give(piece)

        return replay


def recording_executor(config: EngineConfig, device: RecordingDevice) -> TorchExecutor:
    """As ``lazy_executor``, with Triton's attention."""
    executor = lazy_executor(config, device)
    needs = replace(executor.attention._needs, device=device.place.type)
    attention = executor.attention = TritonAttention(needs)
    attention._kernels = Launches(device.machine, attention._kernels)
    return executor
