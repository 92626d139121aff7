"""The executor: order, depth, failures, facts."""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import torch

from cpu.families import make_family
from cpu.plans import GREEDY, Planner, Row, greedy_streams
from infergc.config import ConfigError, engine_config
from infergc.engine.ports import Executor
from infergc.params import SamplingParams
from infergc.sched.plan import FROM_DEVICE, Binding, Move
from infergc.worker.executor import TorchExecutor
from infergc.worker.factory import create_executor
from infergc.worker.memory.copier import Copied, Moving

PROMPT = list(range(3, 23))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family("qwen2_mixed", tmp_path_factory.mktemp("model"), eos_token_id=[7, 9])


def executor_for(directory: Path, **settings: object) -> TorchExecutor:
    defaults = {"dtype": "float32", "threads": 1, "attention_backend": "reference"}
    return create_executor(engine_config(model=directory, **{**defaults, **settings}))


@pytest.fixture
def executor(directory: Path) -> Iterator[TorchExecutor]:
    executor = executor_for(directory)
    yield executor
    executor.close()


@pytest.fixture
def planner(executor: TorchExecutor) -> Planner:
    planner = Planner(executor.facts.groups, 16, slots=4, max_len=128)
    executor.allocate(planner.groups, 4)
    return planner


def bound(slot: int, params: SamplingParams = GREEDY) -> Binding:
    return Binding(slot, params, np.array(PROMPT, np.int32), np.array([], np.int32))


def test_facts(executor: TorchExecutor, directory: Path) -> None:
    facts = executor.facts
    assert (facts.vocab_size, executor.vocab_size, facts.eos_ids, facts.max_len) == (131, 131, (7, 9), 4096)
    assert (facts.dtype, executor.backend) == ("float32", "reference")
    assert [(group.name, group.window, group.capacity) for group in facts.groups] == [
        ("full", None, 0),
        ("window", 40, 0),
    ]
    stored = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    assert facts.memory["weights"] >= stored - 16384, "weights are at least the file less its header"
    assert list(facts.memory) == ["runtime", "weights", "activations"]
    port: Executor = executor
    assert port.facts.digest


def test_block_size_reaches_the_groups(directory: Path) -> None:
    small, large = (executor_for(directory, block_size=size).facts.groups for size in (8, 64))
    assert [8 * group.page_bytes for group in small] == [group.page_bytes for group in large]


def test_waiting_for_copies_is_not_the_time_of_a_step(executor: TorchExecutor, planner: Planner) -> None:
    assert executor._runner is not None
    copied: Future[Copied] = Future()
    timer = Timer(1.0, copied.set_result, (Copied(64, 0.0, 0.9),))
    timer.start()
    plan = planner.plan([Row(1, 0, PROMPT, sample=True)], (bound(1),))
    outcome = executor._runner.run(plan, (), copied, Moving()).outcome()
    timer.join()
    assert outcome.seconds < 0.9
    assert (outcome.copied_bytes, outcome.copy_seconds) == (64, 0.9)


def test_steps_launched_together_give_what_steps_one_by_one_give(executor: TorchExecutor, planner: Planner) -> None:
    together = greedy_streams(executor, planner, [PROMPT], new_tokens=12, chunk=8)[0]
    alone = []
    for step in range(12):
        tokens = PROMPT + alone
        row = Row(1, 0, tokens, sample=True) if step == 0 else Row(1, len(tokens) - 1, tokens[-1:], sample=True)
        outcome = executor.launch(planner.plan([row], (bound(1),) if step == 0 else ())).result()
        alone += outcome.tokens.tolist()
    assert together == alone
    assert len(set(alone)) > 4


def test_outcome_has_a_token_for_sampled_rows_and_reports_where_asked(
    executor: TorchExecutor, planner: Planner
) -> None:
    rows = [Row(0, 0, PROMPT, sample=False), Row(1, 0, PROMPT, sample=True), Row(2, 0, PROMPT, sample=True)]
    bindings = (bound(0), bound(1), bound(2, replace(GREEDY, logprobs=3)))
    plan = planner.plan(rows, bindings)
    outcome = executor.launch(plan).result()
    assert outcome.step == plan.step
    assert outcome.tokens[0] == -1
    assert outcome.tokens[1] == outcome.tokens[2] >= 0
    assert outcome.logprobs.keys() == {2}
    assert outcome.logprobs[2].top_ids[0] == outcome.tokens[2]
    assert outcome.seconds > 0


def test_a_step_that_samples_nothing(executor: TorchExecutor, planner: Planner) -> None:
    outcome = executor.launch(planner.plan([Row(0, 0, PROMPT, sample=False)], (bound(0),))).result()
    assert (outcome.tokens.tolist(), outcome.logprobs) == ([-1], {})


def test_end_tokens_are_banned_before_min_tokens(executor: TorchExecutor, planner: Planner) -> None:
    wish = {7: 100.0}
    free = replace(GREEDY, logit_bias=wish)
    plan = planner.plan(
        [Row(0, 0, PROMPT, sample=True), Row(1, 0, PROMPT, sample=True)],
        (bound(0, free), bound(1, replace(free, min_tokens=5, max_tokens=9))),
    )
    tokens = executor.launch(plan).result().tokens
    assert tokens[0] == 7
    assert tokens[1] != 7


def test_a_failed_step_raises_from_its_flight_and_later_steps_run(executor: TorchExecutor, planner: Planner) -> None:
    good = greedy_streams(executor, planner, [PROMPT], new_tokens=4, chunk=64)[0]
    flights = [
        executor.launch(planner.plan([Row(0, 0, [999], sample=True)], (bound(0),))),
        executor.launch(planner.plan([Row(1, 0, PROMPT, sample=True)], (bound(1),))),
    ]
    with pytest.raises(IndexError):
        flights[0].result()
    assert flights[1].result().tokens.tolist() == good[:1]
    assert greedy_streams(executor, planner, [PROMPT], new_tokens=4, chunk=64)[0] == good


def test_launch_does_not_wait(executor: TorchExecutor, planner: Planner) -> None:
    flights = [executor.launch(planner.plan([Row(0, 0, PROMPT * 6, sample=False)], (bound(0),))) for _ in range(20)]
    assert not flights[-1].moving.over.is_set()
    assert flights[-1].result().step == 20
    assert all(flight.moving.made for flight in flights), "steps run in order"


def test_a_copied_page_reads_as_its_source(executor: TorchExecutor, planner: Planner) -> None:
    """Slot 1 continues slot 0's text on a copy of its only page: copy-on-write as the heap plans it."""
    text = PROMPT[:10]
    executor.launch(planner.plan([Row(0, 0, text, sample=False)], (bound(0),))).result()
    source = planner.plan([Row(0, 10, [50], sample=True)], (bound(0),))
    copied = planner.plan([Row(1, 10, [50], sample=True)], (bound(1),))
    pages = [(int(a.first[0, 0]), int(b.first[0, 0])) for a, b in zip(source.tables, copied.tables, strict=True)]
    moves = tuple(Move("copy", group, src, dst, tokens=10) for group, (src, dst) in enumerate(pages))
    original = executor.launch(source).result().tokens.tolist()
    assert executor.launch(replace(copied, moves=moves)).result().tokens.tolist() == original


def test_a_step_that_fails_has_made_its_moves(executor: TorchExecutor, planner: Planner) -> None:
    """They may be compaction's, of pages that other requests hold."""
    text = PROMPT[:10]
    executor.launch(planner.plan([Row(0, 0, text, sample=False)], (bound(0),))).result()
    source, copied = (planner.plan([Row(slot, 10, [50], sample=True)]) for slot in (0, 1))
    pages = [(int(a.first[0, 0]), int(b.first[0, 0])) for a, b in zip(source.tables, copied.tables, strict=True)]
    moves = tuple(Move("copy", group, src, dst, tokens=16) for group, (src, dst) in enumerate(pages))
    failing = planner.plan([Row(2, 0, PROMPT, sample=True)], (bound(99),))
    with pytest.raises(IndexError):
        executor.launch(replace(failing, moves=moves)).result()
    original = executor.launch(source).result().tokens.tolist()
    assert executor.launch(copied).result().tokens.tolist() == original


def test_a_fresh_token_is_kept_by_slot(executor: TorchExecutor, planner: Planner) -> None:
    """FROM_DEVICE of a row is its slot's token, wherever the slot's row stands in the step."""
    prompts = {0: PROMPT, 2: PROMPT[:7]}
    first = planner.plan([Row(s, 0, p, sample=True) for s, p in prompts.items()], (bound(0), bound(2)))
    second = planner.plan([Row(s, len(prompts[s]), [FROM_DEVICE], sample=True) for s in (2, 0)])
    tokens = dict(zip(prompts, executor.launch(first).result().tokens.tolist(), strict=True))
    found = executor.launch(second).result().tokens.tolist()
    told = planner.plan([Row(s, len(prompts[s]), [tokens[s]], sample=True) for s in (2, 0)])
    assert executor.launch(told).result().tokens.tolist() == found


def test_launch_needs_storage(executor: TorchExecutor) -> None:
    planner = Planner(executor.facts.groups, 16, slots=4, max_len=128)
    plan = planner.plan([Row(0, 0, PROMPT, sample=False)])
    with pytest.raises(RuntimeError, match="allocate"):
        executor.launch(plan)
    executor.allocate(planner.groups, 4)
    flight = executor.launch(plan)
    executor.close()
    assert flight.result().step == plan.step, "close finishes what was launched"
    with pytest.raises(RuntimeError, match="allocate"):
        executor.launch(plan)


def test_storage_is_for_the_models_own_groups(executor: TorchExecutor) -> None:
    with pytest.raises(ValueError, match="groups"):
        executor.allocate(executor.facts.groups[:1], 4)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_the_kernels_own_and_torch_keeps_off_their_cores(directory: Path, threads: int) -> None:
    executor = executor_for(directory, threads=threads)
    assert executor.decoder.ops.threads == threads
    assert executor._thread.submit(torch.get_num_threads).result() == 1
    executor.close()


def test_more_threads_than_cores_are_refused(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--threads: 999 are more than the cores that this process may use, \d+$"):
        executor_for(directory, threads=999)


def test_settings_of_a_gpu_are_told_to_do_nothing_here(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    executor_for(directory, device="cpu").close()
    assert not caplog.messages
    executor_for(directory, device="cpu", gpu_memory_utilization=0.5, enforce_eager=True).close()
    assert caplog.messages == [
        f"{flag} does nothing here: the model runs on the CPU"
        for flag in ("--gpu-memory-utilization", "--enforce-eager")
    ]
