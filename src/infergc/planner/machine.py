"""What computes: a device of the data sheets, or the machine of a calibration, as it is and faster."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from infergc.config import ConfigError
from infergc.sched.plan import StepPlan
from infergc.sim.calibration import CalibratedCost, read_calibration
from infergc.sim.cost import CostModel, Roofline
from infergc.sim.devices import DEVICES, Device, device_named
from infergc.sim.geometry import Geometry
from infergc.sim.targets import cost_on, is_calibration
from infergc.sim.work import StepWork, work_of
from infergc.units import format_bytes


class WorkCost(CostModel, Protocol):
    """A cost that follows from a step's counted work."""

    def of(self, work: StepWork) -> float:
        """Seconds of a step with this work."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """What computes.

    Attributes:
        name: as the command line has it.
        device: of the data sheets; None for a calibrated machine.
        terms: seconds of a calibrated machine, see ``sim.calibration``; None for a device.
    """

    name: str
    device: Device | None = None
    terms: dict[str, float] | None = None

    def cost(self, model: Geometry) -> WorkCost:
        """Of a model's steps."""
        if self.device is not None:
            return Roofline(model, self.device)
        assert self.terms is not None, "a machine has a data sheet or a calibration"
        return CalibratedCost(self.terms, model)

    @property
    def splits(self) -> bool:
        """Whether computing and reading can be made faster one by one: a calibration has only their sum."""
        return self.device is not None

    def faster(self, compute: float = 1.0, reading: float = 1.0) -> "Machine":
        """The same with so many times the operations and bytes a second; a calibrated one speeds up as a whole."""
        if self.device is not None:
            flops, bandwidth = self.device.flops * compute, self.device.bandwidth * reading
            return replace(self, device=replace(self.device, flops=flops, bandwidth=bandwidth))
        assert self.terms is not None, "a machine has a data sheet or a calibration"
        return replace(self, terms={name: each / max(compute, reading) for name, each in self.terms.items()})


class FewerReads:
    """A cost as if each position of K and V were fewer bytes to read; unpacking them is taken to be free.

    Args:
        cost: as it is.
        model: whose steps they are.
        times: how many times fewer.
    """

    def __init__(self, cost: WorkCost, model: Geometry, times: int) -> None:
        self._cost = cost
        self._times = times
        self._windows = model.window_layers

    def seconds(self, plan: StepPlan) -> float:
        """See ``sim.cost.CostModel``."""
        work = work_of(plan, self._windows)
        chunks, decodes = work.chunk_positions // self._times, work.decode_positions // self._times
        return self._cost.of(replace(work, chunk_positions=chunks, decode_positions=decodes))

    def copying(self, size: int) -> float:
        """See ``sim.cost.CostModel``: pages are as much smaller to copy."""
        return self._cost.copying(size // self._times)


def machine_named(name: str, model: Geometry) -> Machine:
    """The machine that ``--device`` names.

    Raises:
        ConfigError: there is none, or the calibration is of a model of another shape.
    """
    if not is_calibration(name):
        return Machine(name.lower(), device_named(name))
    cost_on(name, model)  # refuses what was measured with another model
    return Machine(name, terms=read_calibration(Path(name)).terms)


def machine_for(memory: int, flag: str = "--memory") -> Machine:
    """The listed device whose memory is nearest to so many bytes, which a flag says; of several alike the first.

    Raises:
        ConfigError: it is over twice what the largest has.
    """
    nearest = min(DEVICES.values(), key=lambda device: abs(device.memory - memory))
    if memory > 2 * nearest.memory:
        raise ConfigError(
            f"{flag}: {format_bytes(memory)} for weights and KV is more than any listed device has; plan for one "
            f"device, at most {format_bytes(nearest.memory)}, or name the machine with --device"
        )
    return Machine(nearest.name, nearest)
