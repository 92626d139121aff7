"""An executor without tensors: a clock that steps by what a cost model says, tokens drawn from a hash or a record."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from infergc.config import EngineConfig
from infergc.engine.census import TensorCensus
from infergc.engine.messages import DiskNews
from infergc.engine.ports import ModelFacts
from infergc.heap.errors import Finding
from infergc.heap.groups import GroupSpec
from infergc.heap.jobs import Job
from infergc.heap.moves import TRANSFERS
from infergc.sched.plan import I32, StepOutcome, StepPlan
from infergc.sched.prompt_spans import PromptSpans
from infergc.sim.cost import CostModel, FixedCost
from infergc.sim.disk import SimDisk
from infergc.sim.hf_geometry import read_geometry
from infergc.sim.likely import prompt_reports, reports

STEP_SECONDS = 0.01
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class DoneFlight:
    """A step that was over when it began.

    Attributes:
        outcome: of it.
        landed: whether somebody asked for that.
    """

    def __init__(self, outcome: StepOutcome) -> None:
        self.outcome = outcome
        self.landed = False

    def result(self) -> StepOutcome:
        """Return the outcome."""
        self.landed = True
        return self.outcome


class SimExecutor:
    """Carries out plans in no time. Tokens depend on a sequence's seed and position only, as a model's would.

    A step's copies between device and host are made one after the other, while the step before computes if that is
    still in flight; what is left of them when that is over, the step waits for before it computes.

    Args:
        facts: of the model that is simulated.
        record: outcomes to return instead, in order: a replay of another executor's run.
        cost: what each step is said to take, where there is no record; ``STEP_SECONDS`` if None.

    Attributes:
        seconds: of all steps so far, as their outcomes have them.
    """

    backend = "sim"

    def __init__(self, facts: ModelFacts, record: Sequence[StepOutcome] = (), cost: CostModel | None = None) -> None:
        self.facts = facts
        self.seconds = 0.0
        self._cost = cost or FixedCost(STEP_SECONDS)
        self._outcome: Callable[[StepPlan], StepOutcome] = self._draw
        if record:
            replay = iter(record)
            self._outcome = lambda _: next(replay)
        self._disk = SimDisk(0)
        self._page_bytes: list[int] = []  # by layer group
        self._latest: DoneFlight | None = None
        self._seeds = np.zeros(0, np.uint64)
        self._reported = np.zeros(0, np.int32)
        self._prompts = PromptSpans()

    def allocate(self, groups: tuple[GroupSpec, ...], max_num_seqs: int, host_slots: int = 0) -> None:
        """Make room for the slots' seeds; pages need no storage."""
        del host_slots
        self._page_bytes = [group.page_bytes for group in groups]
        self._disk = SimDisk(sum(self._page_bytes))
        self._seeds = np.zeros(max_num_seqs, np.uint64)
        self._reported = np.zeros(max_num_seqs, np.int32)

    def launch(self, plan: StepPlan) -> DoneFlight:
        """Let the clock go on by one step."""
        for binding in plan.bindings:
            self._seeds[binding.slot] = binding.params.seed or 0
            wanted = binding.params.logprobs
            self._reported[binding.slot] = binding.reported or (-1 if wanted is None else wanted)
            self._prompts.bind(binding)
        outcome = self._outcome(plan)
        self.seconds += outcome.seconds
        self._latest = DoneFlight(outcome)
        return self._latest

    def move(self, job: Job) -> None:
        """Write pages to a disk without files, or read them."""
        self._disk.move(job)

    def news(self) -> list[DiskNews]:
        """See ``engine.ports.Executor``."""
        return self._disk.news()

    def wait(self, seconds: float) -> None:
        """There is news at once."""

    def disk_figures(self) -> dict[str, Any]:
        """See ``engine.ports.Executor``."""
        return self._disk.figures()

    def census(self, step: int) -> TensorCensus:  # noqa: ARG002 - the port's
        """There are no tensors."""
        return TensorCensus()

    def inspect(self) -> tuple[Finding, ...]:
        """Nothing to find: pages have no storage."""
        return ()

    def release(self) -> None:
        """Nothing to let go of."""

    def close(self) -> None:
        """Nothing to free."""

    def _draw(self, plan: StepPlan) -> StepOutcome:
        drawn = _hash(self._seeds[plan.slots], plan.starts + plan.counts) % np.uint64(self.facts.vocab_size)
        tokens = np.where(plan.sample, drawn, -1).astype(np.int32)
        likely = reports(plan, tokens, self._reported[plan.slots], _hash, self.facts.vocab_size)
        size = sum(self._page_bytes[move.group] * move.pages for move in plan.moves if move.kind in TRANSFERS)
        copying = self._cost.copying(size)
        seconds = self._cost.seconds(plan) + max(0.0, copying - self._hidden())
        prompts = prompt_reports(plan, self._prompts.of(plan), _hash, self.facts.vocab_size)
        return StepOutcome(plan.step, tokens, likely, seconds, size, copying, prompts=prompts)

    def _hidden(self) -> float:
        """Seconds of copying that nobody waits for: the step before is computing."""
        return 0.0 if self._latest is None or self._latest.landed else self._latest.outcome.seconds


def _hash(seeds: Any, positions: I32) -> Any:
    """Mix seed and position by SplitMix64's finalizer (Steele et al. 2014)."""
    state = seeds + positions.astype(np.uint64) * _MIX[0]
    state = (state ^ (state >> np.uint64(30))) * _MIX[1]
    state = (state ^ (state >> np.uint64(27))) * _MIX[2]
    return state ^ (state >> np.uint64(31))


def create_executor(config: EngineConfig) -> SimExecutor:
    """Simulate the model whose ``config.json`` lies in ``config.model``; its weights are not read.

    Raises:
        ConfigError: there is no such file, or a field is missing or wrong.
    """
    model = read_geometry(config.model / "config.json")
    return SimExecutor(model.facts(config.block_size, model.vocab, model.eos_ids))
