"""Engines under the simulated executor, for tests of scheduling that need no tensors."""

from collections.abc import Iterable
from typing import Any

from infergc.config import EngineConfig, engine_config
from infergc.engine.assembly import assemble, build_engine
from infergc.engine.loop import Engine
from infergc.engine.messages import Command, Delta, Logprobs, Submit
from infergc.engine.ports import ModelFacts, Sink
from infergc.heap.groups import GroupSpec
from infergc.params import SamplingParams
from infergc.sim.executor import SimExecutor

VOCAB = 50


def facts(
    groups: tuple[GroupSpec, ...] = (GroupSpec("full", 1000),), eos: tuple[int, ...] = (), max_len: int = 512
) -> ModelFacts:
    return ModelFacts("test", VOCAB, eos, max_len, groups, "float32")


def engine_settings(model: ModelFacts | None, pages: int, **settings: Any) -> tuple[EngineConfig, ModelFacts]:
    """For an engine whose KV memory holds ``pages`` pages of every layer group."""
    model = model or facts()
    bundle = sum(group.page_bytes for group in model.groups)
    defaults: dict[str, Any] = {
        "model": ".",
        "kv_cache_memory": max(1, pages * bundle),
        "max_num_seqs": 8,
        "max_num_batched_tokens": 64,
        "pipeline_depth": 1,
    }
    return engine_config(**{**defaults, **settings}), model


def make_engine(
    model: ModelFacts | None = None,
    pages: int = 64,
    sinks: Iterable[Sink] = (),
    record: Any = (),
    executor_class: type[SimExecutor] = SimExecutor,
    use_config_executor: bool = False,
    **settings: Any,
) -> Engine:
    """An engine whose KV memory holds ``pages`` pages of every layer group."""
    config, model = engine_settings(model, pages, **settings)
    if use_config_executor:
        return build_engine(config, sinks)
    return assemble(config, executor_class(model, record), sinks)


def submit(name: str, prompt: list[int], *, priority: int = 0, salt: str = "", **params: Any) -> Submit:
    params = {"seed": sum(map(ord, name)), **params}
    return Submit(name, prompt, SamplingParams(**params), priority, salt)


class Results:
    """Deltas gathered by request."""

    def __init__(self) -> None:
        self.tokens: dict[str, list[int]] = {}
        self.finish: dict[str, str] = {}
        self.cached: dict[str, int] = {}
        self.pinned: dict[str, int | None] = {}
        self.errors: dict[str, str] = {}
        self.logprobs: dict[str, list[Logprobs]] = {}
        self.prompts: dict[str, list[Logprobs]] = {}
        self.totals: dict[str, float | None] = {}

    def take(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            self.tokens.setdefault(delta.request_id, []).extend(delta.tokens)
            self.logprobs.setdefault(delta.request_id, []).extend(delta.logprobs)
            self.prompts.setdefault(delta.request_id, []).extend(delta.prompt_logprobs)
            self.cached[delta.request_id] = delta.cached_tokens
            self.pinned[delta.request_id] = delta.pinned_tokens
            self.totals[delta.request_id] = delta.cumulative_logprob
            if delta.finish:
                self.finish[delta.request_id] = delta.finish
            if delta.error:
                self.errors[delta.request_id] = delta.error

    def take_all(self, other: "Results") -> None:
        self.tokens |= other.tokens
        self.finish |= other.finish


def run(engine: Engine, commands: list[Command], check: bool = True, most: int = 20000) -> Results:
    """Give the commands at once and step until idle, the laws checked after every step."""
    results = Results()
    results.take(engine.step(commands).news())
    for _ in range(most):
        if not engine.has_work():
            break
        results.take(engine.step().news())
        if check:
            engine.heap.check()
    assert not engine.has_work(), "the engine did not come to rest"
    return results
