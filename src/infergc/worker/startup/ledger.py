"""The ledger of start-up: who holds the process's memory, in bytes, each part measured when it has come."""

from collections.abc import Mapping
from pathlib import Path

from infergc.config import ConfigError, EngineConfig
from infergc.engine.footprint import footprint, machine_memory, watched_peak
from infergc.units import MIB, ceil_div, format_bytes
from infergc.worker.executor import TorchExecutor
from infergc.worker.startup.rehearsal import Rehearsal

_TOKEN_BYTES = 4  # of an id, as the scheduler keeps them
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


class Ledger:
    """Books the growth of the process's resident memory to what has just come.

    Made when libraries are loaded and warm, but nothing of the model is. The order of the calls is that of the
    attributes of ``entries``; their sum is then the most the process holds besides KV.

    In a process that held and freed a model before, memory is used again rather than taken anew. The sum is
    still what the process holds; what is used again counts as weights up to their known size, else as runtime.
    """

    def __init__(self) -> None:
        self.entries = {"runtime": footprint().resident}

    def weights_loaded(self, least: int) -> None:
        """Book ``weights``: the growth since the ledger was made, but ``least`` bytes, which they surely take."""
        resident = footprint().resident
        weights = max(least, resident - self.entries["runtime"])
        self.entries = {"runtime": max(0, resident - weights), "weights": weights}

    def rehearse(self, executor: TorchExecutor, rehearsal: Rehearsal) -> None:
        """Run the largest steps and book ``activations``: the peak of the memory that they take.

        Code of libraries that came with the first steps is added to ``runtime``.
        """
        before = footprint()
        with watched_peak() as peak:
            rehearsal.run(executor)
        self.entries["runtime"] += max(0, footprint().files - before.files)
        self.entries["activations"] = max(0, peak.private - before.private)

    def book_texts(self, slots: int, longest: int) -> None:
        """Add the token ids of running sequences to ``activations``: they are committed as texts grow."""
        self.entries["activations"] += slots * longest * _TOKEN_BYTES


def check_fits(config: EngineConfig, taken: Mapping[str, int]) -> None:
    """Refuse a budget that this machine cannot hold: KV pages are committed only when they are written.

    Args:
        config: gives the budget.
        taken: bytes of what is needed beside KV, by holder, as far as it is known.

    Raises:
        ConfigError: naming --memory, --host-cache-memory or --kv-cache-memory and what would fit.
    """
    machine = memory_limit()
    here = f"this machine or container has {format_bytes(machine)} of memory"
    if config.memory is not None and config.memory > machine:
        raise ConfigError(f"--memory: {format_bytes(config.memory)} do not fit: {here}")
    check_host_cache(config)
    rest = machine - sum(taken.values())
    if config.kv_bytes is not None and config.kv_bytes > rest:
        raise ConfigError(
            f"--kv-cache-memory: {format_bytes(config.kv_bytes)} do not fit: {here}, and beside "
            f"{' and '.join(taken)} at most {format_bytes(max(rest, 0))} are left"
        )


def check_host_cache(config: EngineConfig) -> None:
    """Refuse a host tier that this machine cannot hold.

    Raises:
        ConfigError: naming --host-cache-memory.
    """
    machine = memory_limit()
    if config.host_cache_memory is not None and config.host_cache_memory > machine:
        raise ConfigError(
            f"--host-cache-memory: {format_bytes(config.host_cache_memory)} do not fit: this machine or container has "
            f"{format_bytes(machine)} of memory"
        )


def check_holds(config: EngineConfig, taken: Mapping[str, int]) -> None:
    """Refuse a ``--memory`` that cannot even hold what is sure to come; what steps take is not known yet.

    Args:
        config: gives the budget.
        taken: bytes of libraries and weights, by holder.

    Raises:
        ConfigError: naming --memory and the least that these take.
    """
    least = sum(taken.values())
    if config.memory is None or config.memory > least:
        return
    parts = " and ".join(f"{holder} {format_bytes(size)}" for holder, size in taken.items())
    machine = memory_limit()
    beyond = f"; this machine or container has {format_bytes(machine)} of memory" if least > machine else ""
    raise ConfigError(
        f"--memory: {format_bytes(config.memory)} do not hold {parts}; with activations and KV it must be more than "
        f"--memory {ceil_div(least, MIB)}MiB{beyond}"
    )


def memory_limit(own_cgroup: Path = _OWN_CGROUP, cgroups: Path = _CGROUPS) -> int:
    """Bytes that this process may use: the machine's memory, or less where a control group sets a limit."""
    limits = [machine_memory()]
    try:
        names = [line.split(":", 2) for line in own_cgroup.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return limits[0]
    for _, controllers, name in names:
        group = name.lstrip("/")
        if not controllers:
            limits += _limits(cgroups, cgroups / group, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(cgroups / "memory", cgroups / "memory" / group, "memory.limit_in_bytes")
    return min(limits)


def _limits(top: Path, group: Path, name: str) -> list[int]:
    """The limits of a group and of those it lies in; inside a container the path may be of outside: skipped."""
    found = []
    for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
        try:
            found.append(int((folder / name).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return found
