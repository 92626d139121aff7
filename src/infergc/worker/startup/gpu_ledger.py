"""The ledger of start-up on a GPU: who holds its memory, in bytes, each part measured when it has come."""

import torch

from infergc.config import ConfigError, EngineConfig
from infergc.units import format_bytes
from infergc.worker.executor import TorchExecutor
from infergc.worker.startup.rehearsal import Rehearsal


class GpuLedger:
    """Books a GPU's memory: what was taken before, by whomever, then weights, then what the largest steps take.

    Attributes:
        entries: bytes by holder; their sum is the most that is held besides KV.
        total: bytes that the GPU has.
    """

    def __init__(self) -> None:
        free, self.total = torch.cuda.mem_get_info()
        self.entries = {"runtime": self.total - free}

    def weights_loaded(self) -> None:
        """Book ``weights``: what torch holds now."""
        self.entries["weights"] = torch.cuda.memory_reserved()

    def rehearse(self, executor: TorchExecutor, rehearsal: Rehearsal) -> None:
        """Run the largest steps and book ``activations``: the most that torch held beside weights and their KV.

        Libraries make themselves at home with the first steps: what the driver counts beyond is added to ``runtime``.
        """
        torch.cuda.reset_peak_memory_stats()
        rehearsal.run(executor)
        scratch = rehearsal.kv_bytes(executor.facts.groups)
        self.entries["activations"] = max(0, torch.cuda.max_memory_reserved() - self.entries["weights"] - scratch)
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        self.entries["runtime"] = max(self.entries["runtime"], self.total - free - torch.cuda.memory_reserved())

    def check_fits(self, config: EngineConfig, weights: int) -> None:
        """Refuse a budget that this GPU cannot hold.

        Args:
            config: gives the budget.
            weights: bytes that they surely take.

        Raises:
            ConfigError: naming the flag and what would fit.
        """
        taken = {"weights": weights, **self.entries}
        rest, here = self.total - sum(taken.values()), f"this GPU has {format_bytes(self.total)} of memory"
        if rest <= 0:
            raise ConfigError(f"--model: {format_bytes(weights)} of weights do not fit: {here}, and others hold some")
        if config.memory is not None and config.memory > self.total:
            raise ConfigError(f"--memory: {format_bytes(config.memory)} do not fit: {here}")
        if config.kv_cache_memory is not None and config.kv_cache_memory > rest:
            raise ConfigError(
                f"--kv-cache-memory: {format_bytes(config.kv_cache_memory)} do not fit: {here}, and beside "
                f"{' and '.join(taken)} at most {format_bytes(rest)} are left"
            )
