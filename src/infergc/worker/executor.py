"""The executor that runs a model: plans are queued to one worker thread, which carries them out in order."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infergc.engine.census import TensorCensus
from infergc.engine.messages import DiskNews
from infergc.engine.ports import ModelFacts
from infergc.heap.errors import Finding
from infergc.heap.groups import GroupSpec
from infergc.heap.jobs import Job
from infergc.heap.moves import TRANSFERS, Move
from infergc.kernels.api import AttentionBackend
from infergc.models.decoder import Decoder
from infergc.sched.plan import StepPlan
from infergc.worker.debug.tensors import TensorWatch
from infergc.worker.devices.device import Device, HostDevice, drain
from infergc.worker.disk_link import DiskLink, DiskPlace
from infergc.worker.flight import StepFlight
from infergc.worker.memory.copier import Copied, Copier, Moving
from infergc.worker.memory.storage import KVStorage, LayerGroups
from infergc.worker.runner import StepRunner
from infergc.worker.sampler import Sampler


class TorchExecutor:
    """Implements ``engine.ports.Executor``.

    One thread owns all state after ``allocate``. While it computes, torch releases the interpreter lock and
    the engine's thread plans the next step. A step that raises gives its exception from ``Flight.result``; its
    sampled tokens are lost, and later plans run as if it had been skipped. Its moves are made all the same, or it
    raises ``StorageLost``. What a slot's sampler holds is unknown then until it is bound anew.

    Args:
        decoder: the model.
        facts: what the engine is told of it.
        groups: its layer groups.
        attention: the backend that writes and reads KV.
        page_tokens: tokens in a page.
        device: where the model is; None: the host.

    Attributes:
        decoder, attention: as given; attention may be replaced before ``allocate``, and the decoder's operations.
        storage: what ``allocate`` keeps KV in; ``GuardedStorage`` under ``--heap-debug``.
        sampler: makes what ``allocate`` gives every slot's sampling to.
        disk: where the disk tier is, None without one.
        model_dir: has the tokenizer for requests with a grammar; None: those end with an error.
    """

    def __init__(
        self,
        decoder: Decoder,
        facts: ModelFacts,
        groups: LayerGroups,
        attention: AttentionBackend,
        page_tokens: int,
        device: Device | None = None,
    ) -> None:
        self.device = device or HostDevice()
        self.facts = facts
        self.backend = attention.name
        self.decoder = decoder
        self._groups = groups
        self.attention = attention
        self.storage: type[KVStorage] = KVStorage
        self.sampler: Callable[..., Sampler] = Sampler
        self.disk: DiskPlace | None = None
        self.model_dir: Path | None = None
        self._page_tokens = page_tokens
        self._runner: StepRunner | None = None
        self._disk: DiskLink | None = None
        self._copier: Copier | None = None  # where there is a host tier
        self._moved: Moving | None = None  # the moves of the step launched last
        self._copying: tuple[int, Future[Copied]] | None = None  # the step whose transfers were started last
        self._watch = TensorWatch()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="infergc-worker")

    @property
    def vocab_size(self) -> int:
        """Token ids are 0 … vocab_size - 1."""
        return self.facts.vocab_size

    def allocate(self, groups: tuple[GroupSpec, ...], max_num_seqs: int, host_slots: int = 0) -> None:
        """See ``engine.ports.Executor``.

        Raises:
            ValueError: the groups are not those of ``facts``.
        """
        if [group.name for group in groups] != [group.name for group in self.facts.groups]:
            raise ValueError(f"groups: {groups} are not the model's, {self.facts.groups}")
        spec = self.decoder.spec
        storage = self.storage(spec, self._groups, groups, self._page_tokens, host_slots, self.device)
        if host_slots and self.disk is not None:
            self._disk = DiskLink(self.disk, storage.host, self._page_tokens)
        self._copier = Copier(storage, self.device) if host_slots and not storage.in_order else None
        self._runner = StepRunner(
            decoder=self.decoder,
            attention=self.attention,
            groups=self._groups,
            storage=storage,
            sampler=self.sampler(
                max_num_seqs, spec.vocab_size, self.facts.eos_ids, self.device.place, model_dir=self.model_dir
            ),
            max_num_seqs=max_num_seqs,
            device=self.device,
        )
        # The thread runs from now on: no step finds no memory for one. And what was given above is done.
        self._thread.submit(self.device.enter).result()

    def launch(self, plan: StepPlan) -> StepFlight:
        """See ``engine.ports.Executor``.

        Raises:
            RuntimeError: before ``allocate`` or after ``close``.
        """
        if self._runner is None:
            raise RuntimeError("launch: the executor has no storage; call allocate first and close last")
        others, copied = plan.moves, None
        transfers = tuple(move for move in plan.moves if move.kind in TRANSFERS)
        if self._copier is not None and transfers:
            others = tuple(move for move in plan.moves if move.kind not in TRANSFERS)
            copied = self._copies(plan.step, transfers, self._copier)
        flight = StepFlight(self._thread, self._runner.run, plan, others, copied)
        self._moved = flight.moving  # not before: a step that was not started sets no event
        return flight

    def _copies(self, step: int, transfers: tuple[Move, ...], copier: Copier) -> Future[Copied]:
        """Start a step's transfers, once: a later one may write over what an earlier one has read."""
        if self._copying is None or self._copying[0] != step:
            self._copying = step, copier.start(transfers, self._moved)
        return self._copying[1]

    def move(self, job: Job) -> None:
        """See ``engine.ports.Executor``."""
        assert self._disk is not None, "there is no disk tier"
        self._disk.move(job)

    def news(self) -> list[DiskNews]:
        """See ``engine.ports.Executor``."""
        return [] if self._disk is None else self._disk.news()

    def wait(self, seconds: float) -> None:
        """See ``engine.ports.Executor``."""
        if self._disk is not None:
            self._disk.wait(seconds)

    def disk_figures(self) -> dict[str, Any]:
        """See ``engine.ports.Executor``."""
        return {} if self._disk is None else self._disk.figures()

    def census(self, step: int) -> TensorCensus:
        """See ``engine.ports.Executor``."""
        return self._watch.look(step)

    def inspect(self) -> list[Finding]:
        """See ``engine.ports.Executor``."""
        return [] if self._runner is None else self._thread.submit(self._runner.inspect).result()

    def release(self) -> None:
        """See ``engine.ports.Executor``."""
        self._thread.submit(drain, self.device).result()
        self._let_go()

    def _let_go(self) -> None:
        """Close and drop runner, copier and disk link; no step may be in flight."""
        if self._runner is not None:
            self._runner.close()
        if self._copier is not None:
            self._copier.close()
        if self._disk is not None:
            self._disk.close()
            self._disk = None
        self._runner = self._copier = self._copying = None
        self._moved = None
        self._watch = TensorWatch()

    def close(self) -> None:
        """Finish the steps in flight, stop the threads and let go of KV and sampler state."""
        if self._runner is not None:
            self._thread.submit(drain, self.device)
        self._thread.shutdown(wait=True)
        self._let_go()
