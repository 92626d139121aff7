"""The engine's ports: what carries out a plan (Executor), and what hears of it (Sink)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from infergc.engine.census import TensorCensus
from infergc.engine.messages import Command, DiskNews, Outputs
from infergc.heap.errors import Finding
from infergc.heap.groups import GroupSpec
from infergc.heap.jobs import Job
from infergc.sched.plan import StepOutcome, StepPlan


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the engine needs to know of a model: plain data, no tensors.

    Attributes:
        digest: hex digest of weights and of the settings that shape KV; part of every cache namespace.
        vocab_size: ids are 0 … vocab_size - 1.
        eos_ids: ids that end a text.
        max_len: the model's context in tokens.
        groups: layer groups with page bytes and windows; capacity still 0.
        dtype: of KV, as shown to people.
        memory: what the process holds beside KV at most, in bytes by holder ("runtime", "weights", "activations");
            of the GPU's memory alone, where the model is on one.
        granted: bytes of a GPU's memory that are the engine's where it is told no number; 0 on a CPU.
    """

    digest: str
    vocab_size: int
    eos_ids: tuple[int, ...]
    max_len: int
    groups: tuple[GroupSpec, ...]
    dtype: str
    memory: dict[str, int] = field(default_factory=dict)
    granted: int = 0


class Flight(Protocol):
    """A launched step."""

    def result(self) -> StepOutcome:
        """Wait for the step and return its outcome; raises what the worker raised."""
        ...


class Executor(Protocol):
    """Carries out step plans in the order launched: moves first, then the forward pass, then sampling.

    The moves of a step that fails are made all the same: its pages may be other requests' than its own. Where they
    cannot be, its outcome is ``StorageLost``, and nothing that is stored is used again. A step of no rows is there for
    its moves.
    """

    facts: ModelFacts
    backend: str  # name of what computes, as shown to people

    def allocate(self, groups: tuple[GroupSpec, ...], max_num_seqs: int, host_slots: int = 0) -> None:
        """Set up KV storage for each group's capacity and state for slots 0 … max_num_seqs - 1.

        ``host_slots`` pages of every group are to fit into the host tier.
        """
        ...

    def launch(self, plan: StepPlan) -> Flight:
        """Start a step and return at once. Several may be in flight; they run in order.

        What it raises counts as the step's outcome, but the moves were not made: the engine launches them again by
        themselves, under the same number. Those that were begun after all are not to be made twice.
        """
        ...

    def move(self, job: Job) -> None:
        """Begin to move pages between host slots and the disk tier, where there is one; ``news`` tells what came of it.

        The step that the job names has landed.
        """
        ...

    def news(self) -> list[DiskNews]:
        """What the disk tier has done since the last call; at first, what it found there."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until there is news of the disk tier, so long at most."""
        ...

    def disk_figures(self) -> Mapping[str, Any]:
        """What the disk tier counts of its files, for metrics alone; empty without one.

        Keys: ``segments``, ``pages_written``, ``bytes_written``, ``write_seconds``, ``pages_unwritten``,
        ``pages_read``, ``bytes_read``, ``read_seconds``, ``pages_missed``, ``pages_evicted``, ``segments_of_others``,
        and ``failures`` by ``tier_stats.DISK_FAILURES``.
        """
        ...

    def census(self, step: int) -> TensorCensus:
        """Look at the live tensors; the first look learns which are the model's. Nothing, where there are none.

        Args:
            step: how many steps were launched. A second look at the same one tells what was freed between.
                While one is in flight, its own tensors are seen too.
        """
        ...

    def inspect(self) -> Sequence[Finding]:
        """Wait for the steps in flight and look for damage to storage; nothing is found where nothing guards it."""
        ...

    def release(self) -> None:
        """Wait for what is in flight, and let go of storage and of all state but the model; ``allocate`` may follow.

        Harmless when repeated.
        """
        ...

    def close(self) -> None:
        """Stop and free everything."""
        ...


@dataclass(frozen=True, slots=True)
class Collection:
    """A call of the collector. Its budget comes from a clock: an input of the run (law 10).

    Attributes:
        step: being planned then.
        budget: in work units.
        idle: nothing ran; else it was made between two steps.
    """

    step: int
    budget: int
    idle: bool


class Sink:
    """Hears of every input of the run and every step, in order, on the engine's thread; one overrides what it minds."""

    def taken(self, commands: Sequence[Command]) -> None:
        """An iteration of the loop begins, with these commands."""

    def planned(self, plan: StepPlan) -> None:
        """A step was planned and launched."""

    def landed(self, outcome: StepOutcome) -> None:
        """The oldest step in flight gave this outcome."""

    def collected(self, collection: Collection) -> None:
        """The collector was called; it may have found nothing to do."""

    def outputs(self, outputs: Outputs) -> None:
        """An iteration of the loop is over."""

    def resumed(self) -> None:
        """An iteration failed half way: an engine begins anew, and takes the commands of that iteration once more."""
