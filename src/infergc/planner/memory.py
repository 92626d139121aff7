"""From the memory of a machine to the KV pool, and to how it is written on a command line."""

from dataclasses import dataclass

from infergc.config import ConfigError
from infergc.heap.groups import split_budget
from infergc.planner.machine import Machine
from infergc.sim.devices import KV_SHARE
from infergc.sim.geometry import Geometry
from infergc.units import GIB, KIB, MIB, ceil_div, format_bytes


@dataclass(frozen=True, slots=True)
class Memory:
    """Where memory goes, in bytes.

    Attributes:
        total: of which the rest is part; None where the pool alone was given.
        weights: of the model.
        kv: the pool.
    """

    total: int | None
    weights: int
    kv: int

    @property
    def flag(self) -> str:
        """That says how much there is."""
        return "--kv-cache-memory" if self.total is None else "--memory"

    @property
    def spare(self) -> int | None:
        """Left for activations and libraries; None where the total is not known."""
        return None if self.total is None else self.total - self.weights - self.kv


def memory_of(model: Geometry, machine: Machine, total: int | None, kv: int | None) -> Memory:
    """The memory of a plan.

    Args:
        model: whose weights lie there.
        machine: whose memory counts where no other was given.
        total: bytes of ``--memory``: weights and KV get ``KV_SHARE`` of them.
        kv: bytes of ``--kv-cache-memory``, given instead.

    Raises:
        ConfigError: the weights alone are more, or no memory is known; the message names the flag.
    """
    if kv is not None:
        return Memory(None, model.weight_bytes, rounded(kv))
    if total is None:
        if machine.device is None:
            raise ConfigError("--memory: is required with a calibration, which does not say how much there is")
        total = machine.device.memory
    room = int(total * KV_SHARE) - model.weight_bytes
    if room <= 0:
        least = ceil_div(int(model.weight_bytes / KV_SHARE), MIB)
        raise ConfigError(
            f"--memory: {format_bytes(total)} leaves nothing for KV: the weights of {model.name} take "
            f"{format_bytes(model.weight_bytes)} in {model.dtype}, and {1 - KV_SHARE:.0%} is left for activations and "
            f"libraries; it must be more than {least}MiB"
        )
    return Memory(total, model.weight_bytes, rounded(room))


def pool_pages(model: Geometry, memory: Memory, block_size: int) -> int:
    """Pages of so many tokens that the pool holds, each with a part in every layer.

    Raises:
        ConfigError: not even one.
    """
    try:
        return min(group.capacity for group in split_budget(model.facts(block_size).groups, memory.kv))
    except ValueError as error:
        raise ConfigError(f"{memory.flag}: for KV, {error}") from None


def rounded(count: int) -> int:
    """Bytes rounded down to what is short on a command line."""
    unit = _unit(count)
    return count // unit * unit


def written(count: int) -> str:
    """Rounded bytes as flags take them, exactly: ``"7168MiB"``."""
    names = {MIB: "MiB", KIB: "KiB", 1: ""}
    unit = next(unit for unit in names if count % unit == 0)
    return f"{count // unit}{names[unit]}"


def _unit(count: int) -> int:
    """Rounding takes less than a thousandth."""
    return MIB if count >= GIB else KIB if count >= MIB else 1
