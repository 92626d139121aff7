"""How long a step takes: a fixed time, or the roofline of a device."""

from dataclasses import dataclass
from typing import Protocol

from infergc.sched.plan import StepPlan
from infergc.sim.devices import Device
from infergc.sim.geometry import Geometry
from infergc.sim.work import StepWork, work_of


class CostModel(Protocol):
    """Tells what a step takes from its plan alone, so that a simulated run repeats exactly."""

    def seconds(self, plan: StepPlan) -> float:
        """Time that the worker would be busy with this step, copies between tiers left out. Cost: O(rows)."""
        ...

    def copying(self, size: int) -> float:
        """Time that copying so many bytes between device and host takes, one way."""
        ...


@dataclass(frozen=True, slots=True)
class FixedCost:
    """Every step takes the same.

    Attributes:
        each: seconds of a step.
    """

    each: float

    def seconds(self, plan: StepPlan) -> float:  # noqa: ARG002 - the protocol's
        """See ``CostModel``."""
        return self.each

    def copying(self, size: int) -> float:  # noqa: ARG002 - the protocol's
        """Nothing: what is fixed is the whole of a step."""
        return 0.0


class Roofline:
    """Each kind of kernel takes the longer of computing and reading (Williams et al. 2009, Roofline).

    Kernels run one after the other, so their times add up: the products of the layers, the output matrix for sampled
    rows, attention of chunks, attention of decodes. Weights are read once a step, K and V once a row and layer.
    See docs/cost-model.md for the formula and for what it leaves out.

    Args:
        model: whose steps they are.
        device: that carries them out.
    """

    def __init__(self, model: Geometry, device: Device) -> None:
        self.model = model
        self.device = device
        self._windows = model.window_layers
        rate, read = device.flops * device.product_share, device.bandwidth * device.bandwidth_share
        kv_bytes = 2 * model.kv_width * model.value_bytes  # of one position in one layer
        self._layer_token = 2 * model.layer_matrix / rate
        self._layer_read = model.layer_matrix * model.value_bytes / read
        self._head_row = 2 * model.head_matrix / rate
        self._head_read = model.head_matrix * model.value_bytes / read
        self._pair = 4 * model.q_width / (device.flops * device.attention_share)  # q·k and p·v, 2 operations a value
        self._position = kv_bytes / read
        self._written = model.layers * kv_bytes / read
        self._always = model.layers * device.layer_seconds

    def seconds(self, plan: StepPlan) -> float:
        """See ``CostModel``."""
        return self.of(work_of(plan, self._windows))

    def copying(self, size: int) -> float:
        """See ``CostModel``."""
        return size / (self.device.link * self.device.link_share)

    def of(self, work: StepWork) -> float:
        """Seconds of a step with this work."""
        layers = max(work.tokens * self._layer_token, self._layer_read)
        head = max(work.sampled * self._head_row, self._head_read) if work.sampled else 0.0
        chunks = max(work.chunk_pairs * self._pair, work.chunk_positions * self._position)
        decodes = work.decode_positions * max(self._pair, self._position)
        return layers + head + chunks + decodes + work.tokens * self._written + self._always
