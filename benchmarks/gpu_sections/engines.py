"""The engine that is measured, as a contestant: a model on the device, and rounds of requests through it."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gpu_sections.models import geometry, kv_bytes_per_token
from infergc.bench.gpu.section import Setting
from infergc.config import EngineConfig, engine_config
from infergc.engine.assembly import assemble
from infergc.engine.garbage import PythonGarbage
from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.engine.ports import Sink
from infergc.params import SamplingParams
from infergc.worker.factory import create_executor

BATCHED_TOKENS = 8192  # in a step


class Ours:
    """Infer-GC.

    Args:
        model: its directory.
        setting: of the run.
        seats: most sequences in a step.
        tokens: that its memory for KV holds.
        longest: tokens of the longest text.
        sinks: hear of every step.
        settings: more of its configuration.

    Attributes:
        engine: the loop.
    """

    name = "infergc"

    def __init__(
        self,
        model: Path,
        setting: Setting,
        seats: int,
        tokens: int,
        longest: int,
        sinks: Iterable[Sink] = (),
        **settings: Any,
    ) -> None:
        config = configuration(model, setting, seats, tokens, longest, **settings)
        self.engine: Engine = assemble(config, create_executor(config), sinks)
        self._until_closed = ExitStack()
        self._until_closed.enter_context(PythonGarbage(self.engine.ready.memory)).freeze()  # as its own process does
        self._rounds = 0

    @property
    def words(self) -> str:
        """What it runs in."""
        return f"{self.engine.ready.backend}, {self.engine.ready.dtype}"

    def generate(self, prompts: list[list[int]], count: int) -> list[list[int]]:
        """Greedy outputs of exactly ``count`` tokens each."""
        self._rounds += 1
        params = SamplingParams(max_tokens=count, temperature=0, ignore_eos=True, seed=0)
        names = [f"{self._rounds}-{at}" for at in range(len(prompts))]
        outputs: dict[str, list[int]] = {name: [] for name in names}
        commands = [Submit(name, prompt, params) for name, prompt in zip(names, prompts, strict=True)]
        while commands or self.engine.has_work():
            told, commands = self.engine.step(commands), []
            for name, token in zip(told.ids, told.tokens, strict=True):
                outputs[name].append(token)
            for delta in told.deltas:
                outputs[delta.request_id].extend(delta.tokens)
        return list(outputs.values())

    def forget(self) -> None:
        """Nothing is kept for one load alone."""

    def close(self) -> None:
        """Free the model and its memory."""
        self._until_closed.close()
        self.engine.close()


def configuration(
    model: Path, setting: Setting, seats: int, tokens: int, longest: int, **settings: Any
) -> EngineConfig:
    """The engine's, with memory for KV of so many tokens."""
    return engine_config(
        model=model,
        device=setting.device,
        kv_cache_memory=tokens * kv_bytes_per_token(geometry(model)),
        max_num_seqs=seats,
        max_num_batched_tokens=max(seats, BATCHED_TOKENS if setting.device == "cuda" else 256),
        max_model_len=longest,
        **settings,
    )
