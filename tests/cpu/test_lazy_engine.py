"""The engine on a device that does everything late: it says what it says on the CPU, whatever the order of streams."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cpu.families import make_family
from cpu.lazy_device import LazyDevice, lazily, lazy_executor
from cpu.lazy_scenes import NothingIsSettled, WorkerWaitsForNothing
from cpu.lazy_streams import COPIES_EARLY, EXTREMES, LATE, STEPS_EARLY, WORKER, DeviceError, Schedule, some_order
from cpu.test_engine_compaction import ALWAYS
from infergc.config import engine_config
from infergc.engine.assembly import assemble, build_engine
from infergc.engine.loop import Engine
from infergc.worker.runner import StepRunner
from samples.engines import Results, run, submit
from samples.lengths import at_length

LAYERS = {"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]}
COMMON: dict[str, Any] = {"dtype": "float32", "threads": 1, "pipeline_depth": 2, "max_num_seqs": 6}
# 22 pages of 8 tokens in each group, 12 slots: copies on write, swaps, pages that go to the host tier and come back.
TIGHT = {
    "kv_cache_memory": "90KiB",
    "block_size": 8,
    "max_num_batched_tokens": 48,
    "admission_policy": "page-each",
    "host_cache_memory": "48KiB",
    "preemption": "swap",
    "tiering_policy": "always",
}
# Superblocks of 16 pages, which compaction empties whenever it can.
SPARSE = {"kv_cache_memory": "1MiB", "block_size": 64, "max_num_batched_tokens": 128, "max_model_len": 256}
PROMPTS = (40, 20, 33, 50, 28, 61)
SPARSE_PROMPTS = (5, 70, 16, 133, 40, 7, 90, 17, 48, 1, 60, 30, 110, 9, 64, 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("qwen2_mixed", tmp_path_factory.mktemp("model"), **LAYERS)


def greedy(name: str, prompt: list[int], tokens: int, **more: Any) -> Any:
    return submit(name, prompt, max_tokens=tokens, ignore_eos=True, temperature=0.0, **more)


def load() -> list[Any]:
    """Texts that begin alike, or not, and one of which there are two choices."""
    prompts = [
        [(i * 7 if at % 3 else i * 5 + at) % 131 for i in range(length - 1)] for at, length in enumerate(PROMPTS)
    ]
    return [greedy(f"r{at}", [*prompt, at], 14, **({"n": 2} if at == 2 else {})) for at, prompt in enumerate(prompts)]


def sparse_load() -> list[Any]:
    return [
        greedy(f"r{at}", [(i * 7 + at * (at % 4 > 0)) % 131 for i in range(length)], 3 + 7 * at % 20)
        for at, length in enumerate(SPARSE_PROMPTS)
    ]


def drive(engine: Engine) -> Results:
    """A request comes with every step, so that some end while others go on."""
    results, requests = Results(), sparse_load()
    while requests or engine.has_work():
        results.take(engine.step([requests.pop(0)] if requests else []).news())
    return results


@contextmanager
def lazy_engine(
    model: Path, order: Schedule, kind: type[LazyDevice] = LazyDevice, **settings: Any
) -> Iterator[tuple[Engine, LazyDevice]]:
    config = engine_config(model=model, attention_backend="reference", **{**COMMON, **settings})
    with lazily(order, kind) as device:
        executor = lazy_executor(config, device)
        engine = assemble(config, executor)
        try:
            yield engine, device
        finally:
            executor.close()


@pytest.fixture(scope="module")
def expected(model: Path) -> Results:
    """What the CPU's engine says, twice the same, having done what is to be seen."""
    engine = build_engine(engine_config(model=model, deterministic=True, **COMMON, **TIGHT))
    results = run(engine, load())
    assert run(engine, load()).tokens == results.tokens
    uses(engine)
    engine.close()
    assert len({tuple(tokens) for tokens in results.tokens.values()}) == len(results.tokens) - 1, "all but two choices"
    assert all(len(set(tokens)) > 3 for tokens in results.tokens.values())
    return results


def uses(engine: Engine) -> None:
    """It did what makes streams wait for each other."""
    assert engine.heap.tiers is not None
    assert engine.heap.tiers.counters.demoted > 10
    assert engine.heap.tiers.counters.promoted > 3
    assert engine.heap.counters.copies > 2
    assert engine.scheduler.counters.preemptions > 0


@pytest.mark.parametrize(
    "order", at_length([LATE, STEPS_EARLY], [*EXTREMES, some_order(0)]), ids=lambda order: order.name
)
def test_texts_are_the_cpus_in_any_order_of_streams(model: Path, expected: Results, order: Schedule) -> None:
    """Twice, so that prompts are found in both tiers."""
    with lazy_engine(model, order, **TIGHT) as (engine, device):
        for _ in range(2):
            assert run(engine, load(), check=False).tokens == expected.tokens
        uses(engine)
        engine.close()
        assert device.machine.is_idle
        assert not device.machine.crossed


def test_pages_that_compaction_moves_are_read_where_they_went(model: Path) -> None:
    told = []
    still = build_engine(engine_config(model=model, deterministic=True, **COMMON, **SPARSE))
    told.append(drive(still).tokens)
    still.close()
    with lazy_engine(model, LATE, compaction=True, **SPARSE) as (engine, _):
        assert engine.heap.compactor is not None
        engine.heap.compactor.knobs = ALWAYS
        told.append(drive(engine).tokens)
        assert engine.heap.counters.moved > 10
    assert told[0] == told[1]


@pytest.mark.parametrize("order", at_length([COPIES_EARLY], [LATE, COPIES_EARLY]), ids=lambda order: order.name)
def test_what_is_on_disk_is_found_after_a_restart(
    model: Path, expected: Results, order: Schedule, tmp_path: Path
) -> None:
    """The disk's thread reads and writes slots of the host tier, which the copier's stream does, too."""
    place = {"disk_cache_dir": tmp_path / "kv", "disk_cache_size": "64MiB"}
    for restart in range(2):
        with lazy_engine(model, order, **TIGHT, **place) as (engine, _):
            assert run(engine, load(), check=False).tokens == expected.tokens
            disk = engine.heap.tiers.disk if engine.heap.tiers is not None else None
            engine.close()
            assert disk is not None
            assert (disk.counters.read if restart else disk.counters.written) > 0


@pytest.mark.parametrize("order", at_length([LATE], [LATE, COPIES_EARLY]), ids=lambda order: order.name)
def test_who_was_in_a_step_that_failed_says_the_same(
    model: Path, expected: Results, order: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pages are others' at once, though the device was given what writes them."""
    calls = [0]

    def fails_now_and_then(runner: Any, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] in (4, 17, 30):
            raise MemoryError("no memory, for a test")
        return sample(runner, *arguments)

    sample = StepRunner._sample
    monkeypatch.setattr(StepRunner, "_sample", fails_now_and_then)
    with lazy_engine(model, order, **TIGHT) as (engine, _):
        assert run(engine, load(), check=False).tokens == expected.tokens
        assert engine.counters.failed_steps == 3


def test_whatever_requests_ask_of_sampling_is_the_cpus(model: Path) -> None:
    knobs: list[dict[str, Any]] = [
        {"repetition_penalty": 1.2, "temperature": 0.0},
        {"logit_bias": {3: 2.0}},
        {"presence_penalty": 0.5, "logprobs": 3},
        {"top_p": 0.9, "top_k": 40, "min_p": 0.01},
        {"min_tokens": 5, "n": 2, "prompt_logprobs": 2},
    ]
    asked = [
        submit(f"r{at}", [9, 8, at], **{"max_tokens": 9, "ignore_eos": True, "temperature": 1.1, "seed": at, **each})
        for at, each in enumerate(knobs)
    ]
    host = build_engine(engine_config(model=model, deterministic=True, kv_cache_memory="1MiB", **COMMON))
    wanted = run(host, asked)
    host.close()
    with lazy_engine(model, LATE, kv_cache_memory="1MiB") as (engine, device):
        found = run(engine, asked, check=False)
        assert not device.machine.crossed
    assert not wanted.errors
    assert found.tokens == wanted.tokens
    for theirs, ours in ((wanted.logprobs, found.logprobs), (wanted.prompts, found.prompts)):
        assert [[each.top_ids for each in theirs[name]] for name in theirs] == [
            [each.top_ids for each in ours[name]] for name in theirs
        ]


@pytest.mark.parametrize("kind", [WorkerWaitsForNothing, NothingIsSettled], ids=lambda kind: kind.__name__)
def test_without_a_wait_the_engine_says_something_else(model: Path, expected: Results, kind: type[LazyDevice]) -> None:
    """The waits that any load needs; ``test_lazy_scenes.py`` has all."""
    same = False
    with lazy_engine(model, LATE, kind, **TIGHT) as (engine, _), suppress(DeviceError):  # an index that is none
        same = all(run(engine, load(), check=False).tokens == expected.tokens for _ in range(2))
    assert not same


def test_greedy_decode_waits_for_nothing(model: Path) -> None:
    """Nor do rows with a temperature alone. All that the device has to know of a step goes by one copy."""
    prompts = [greedy("g", [5, 6, 7], 12), submit("t", [8, 9], max_tokens=12, ignore_eos=True, temperature=0.9)]
    with lazy_engine(model, LATE, kv_cache_memory="1MiB") as (engine, device):
        machine = device.machine
        machine.host_waits.clear()
        machine.uploads.clear()
        assert not run(engine, prompts, check=False).errors
        assert machine.host_waits == []
        assert WORKER not in machine.settled
        assert machine.uploads == [WORKER] * engine.counters.steps
        assert engine.counters.steps > 10
