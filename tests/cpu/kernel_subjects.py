"""What the suites of attention kernels are run on: a backend as it is made, and what it is not asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch

from cpu.kernel_cases import TOLERANCE, Case, run
from infergc.kernels.api import AttentionBackend, AttentionNeeds
from infergc.kernels.capabilities import Capabilities
from infergc.kernels.cpu.backend import CpuAttention
from infergc.kernels.cpu.threads import CpuThreads
from infergc.kernels.reference import ReferenceAttention


@dataclass(frozen=True)
class Subject:
    """A backend under test.

    Attributes:
        make: from needs and threads.
        capabilities: what it takes; a test of what it does not is skipped, and says so.
        half: the dtype of two bytes that it is mostly tried in.
        device: where its tensors lie.
        tolerance: how far from the reference it may be.
    """

    make: Callable[[AttentionNeeds, int], AttentionBackend]
    capabilities: Capabilities
    half: torch.dtype = torch.bfloat16
    device: str = "cpu"
    tolerance: dict[torch.dtype, dict[str, float]] = field(default_factory=lambda: TOLERANCE)

    def run(self, case: Case, threads: int = 2) -> torch.Tensor:
        """Compute a case of the CPU where this backend computes; the result is brought back."""
        return run(self.backend(case, threads), self.on_device(case))

    def backend(self, case: Case, threads: int = 2) -> AttentionBackend:
        """Make the backend for a case; skip the test if it does not take it."""
        shape = self.on_device(case).needs
        if reason := self.capabilities.refusal(shape):
            pytest.skip(reason)
        return self.make(shape, threads)

    def on_device(self, case: Case) -> Case:
        """The case with its pages where this backend reads them."""
        return replace(case, needs=replace(case.needs, device=self.device))


def cpu(isa: str) -> Subject:
    """The C++ kernels in one instruction set."""
    return Subject(lambda shape, threads: CpuAttention(shape, CpuThreads(threads), isa), CpuAttention.capabilities)


REFERENCE = Subject(lambda shape, _: ReferenceAttention(shape), ReferenceAttention.capabilities)
