"""Random loads on the smallest pools with tiers below them: whatever was copied where, each request sees its own KV."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from infergc.cache_control import CacheControl
from infergc.engine.loop import Engine
from infergc.engine.messages import Abort, Ask, Command, Submit, Tick, choice_names
from infergc.engine.record import Recorder, replay
from infergc.heap.groups import GroupSpec, window_pages
from infergc.sim.executor import SimExecutor
from samples.engines import VOCAB, Results, facts, make_engine, submit
from samples.lengths import at_length
from samples.shadow_executor import ShadowExecutor, shadowed

CHUNK = 32
WINDOW = GroupSpec("window", 600, window=40)
FULL = GroupSpec("full", 1000)
SHAPES = {
    "full": ((FULL,), 9),
    "mixed": ((FULL, WINDOW), window_pages(WINDOW, 16, CHUNK) + 3),
}
MOST_STEPS = 6000
REQUESTS = at_length(30, 50)


@dataclass(frozen=True)
class Case:
    """An engine and its storage. ``host`` is in pages."""

    shape: str
    depth: int
    preemption: str
    host: int
    disk: bool
    in_order: bool = False
    unsound: bool = False

    def __str__(self) -> str:
        more = "".join(name for name in ("disk", "in_order", "unsound") if getattr(self, name))
        return f"{self.shape}-{self.depth}-{self.preemption}-{self.host}-{more}"

    def engine(self, executor_class: type[SimExecutor] = ShadowExecutor, **settings: Any) -> Engine:
        groups, pages = SHAPES[self.shape]
        size = sum(group.page_bytes for group in groups)
        defaults = {
            "pages": pages,
            "pipeline_depth": self.depth,
            "preemption": self.preemption,
            "host_cache_memory": self.host * size,
            "max_num_batched_tokens": CHUNK,
            "max_num_seqs": 4,
            "scheduling_policy": "priority",
            "executor_class": executor_class,
        }
        place = {"disk_cache_dir": "nowhere"} if self.disk else {}
        return make_engine(facts(groups, eos=(3,), max_len=400), **{**defaults, **place, **settings})


CASES = [
    Case("full", 1, "swap", 6, disk=False),
    Case("full", 2, "swap", 100, disk=False),
    Case("full", 2, "auto", 12, disk=True),
    Case("full", 1, "recompute", 8, disk=True, in_order=True),
    Case("full", 2, "swap", 24, disk=True, unsound=True),
    Case("mixed", 2, "swap", 14, disk=False, unsound=True),
    Case("mixed", 1, "auto", 24, disk=True),
    Case("mixed", 2, "recompute", 12, disk=True),
    Case("mixed", 2, "swap", 16, disk=True, in_order=True),
]


def random_submit(rng: np.random.Generator, number: int, longest: int) -> Submit:
    """A turn of a session or a request by itself, for one text, several, or the best of a search."""
    family = int(rng.integers(6))
    base = [(i * 7 + family * 11) % VOCAB for i in range(longest)]
    length = int(rng.integers(1, longest))
    shared = max(0, length - int(rng.integers(0, 40)))
    prompt = base[:shared] + rng.integers(0, VOCAB, length - shared).tolist()
    one = submit(
        f"r{number}", prompt, priority=int(rng.integers(3)), salt="ab"[int(rng.integers(2))],
        max_tokens=int(rng.integers(1, 60)), ignore_eos=rng.random() < 0.7,
    )  # fmt: skip
    kind = rng.random()
    if kind < 0.2:
        one.session = f"s{rng.integers(3)}"
    if kind < 0.1 or kind > 0.9:
        one.params = replace(one.params, n=int(rng.integers(2, 4)))
    elif kind > 0.75:
        one.prompt = one.prompt[: max(1, longest // 4)]
        one.params = replace(one.params, n=2, use_beam_search=True, max_tokens=24)
    elif kind > 0.68:
        one.cache_control = CacheControl(ttl=2, priority=int(rng.integers(101)), pin=rng.random() < 0.5)
    if family < 2:  # 50 tokens of these texts are declared public
        one.public_tokens = min(50, shared, len(one.prompt))
    return one


def random_commands(rng: np.random.Generator, names: list[str]) -> list[Command]:
    commands: list[Command] = []
    if names and rng.random() < 0.03:
        commands.append(Abort(str(rng.choice(names)), stopped=rng.random() < 0.3))
    if rng.random() < 0.03:
        about = {"salt": "ab"[int(rng.integers(2))], "session": f"s{rng.integers(3)}", "reason": "idle"}
        commands.append(Ask(1, "close_session", about))
    return commands


class Load:
    """What was asked of an engine, and what it said."""

    def __init__(self) -> None:
        self.asked: list[Submit] = []
        self.names: list[str] = []
        self.aborted: set[str] = set()
        self.results = Results()

    def run(self, engine: Engine, rng: np.random.Generator) -> None:
        """Random commands until the engine comes to rest, every law checked after every step."""
        steps = 0
        while engine.has_work() or engine.awaits_news() or len(self.asked) < REQUESTS:
            commands = random_commands(rng, self.names)
            self.aborted |= {command.request_id.split("#")[0] for command in commands if isinstance(command, Abort)}
            if len(self.asked) < REQUESTS and rng.random() < 0.25:
                one = random_submit(rng, len(self.asked), engine.ready.max_model_len)
                commands.append(one)
                self.asked.append(one)
                self.names += choice_names(one.request_id, one.params.n)
            if steps % 25 == 0:
                commands.append(Tick(steps // 25))
            self.results.take(engine.step(commands).news())
            engine.heap.check()
            steps += 1
            assert steps < MOST_STEPS, f"still at work: {engine.heap.stats()}"
        assert set(self.results.finish) == set(self.names)


def close_sessions(engine: Engine, last: int) -> None:
    """Nobody keeps anything any more."""
    for salt in "ab":
        for session in ("s0", "s1", "s2"):
            engine.step([Ask(1, "close_session", {"salt": salt, "session": session, "reason": "idle"})])
    engine.step([Tick(last)])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_request_sees_its_own_kv_wherever_it_was(case: Case) -> None:
    rng = np.random.default_rng(8)
    record, load = Recorder(), Load()
    engine = case.engine(sinks=[record])
    executor = shadowed(engine)
    executor.in_order, executor.unsound = case.in_order, case.unsound
    load.run(engine, rng)
    close_sessions(engine, MOST_STEPS)
    executor.verify()
    assert not load.results.errors
    assert bool(engine.scheduler.trials.retried) == case.unsound
    _nothing_is_left(engine)
    assert all(group.live == group.in_transit == 0 for group in engine.heap.stats())
    _the_tiers_were_used(engine, case)
    if not case.unsound:
        again = Recorder()
        replay(record, case.engine(Replaying, sinks=[again], record=record.outcomes))
        assert again.events == record.events
    _says_what_a_roomy_engine_says(load, case, engine.ready.max_model_len)


class Replaying(SimExecutor):
    """Gives recorded outcomes, and no news: a replay has them among its inputs."""


def _nothing_is_left(engine: Engine) -> None:
    tiers, use = engine.heap.tiers, engine.scheduler.tier_use
    assert tiers is not None
    assert use is not None
    assert not tiers.host.claims
    assert not tiers.host.held
    assert not tiers.host.arriving
    assert not use.waiters
    assert tiers.disk is None or not tiers.disk.is_busy
    assert not engine.heap.moves


def _the_tiers_were_used(engine: Engine, case: Case) -> None:
    tiers = engine.heap.tiers
    assert tiers is not None
    assert tiers.counters.demoted > 0
    assert tiers.counters.promoted > 0
    assert engine.scheduler.counters.preemptions > 0
    if tiers.disk is not None:
        counted = tiers.disk.counters
        assert min(counted.written, counted.read, counted.unwritten, counted.lost) > 0, counted


def _says_what_a_roomy_engine_says(load: Load, case: Case, longest: int) -> None:
    groups, _ = SHAPES[case.shape]
    roomy = make_engine(facts(groups, eos=(3,), max_len=longest), pages=400, max_num_seqs=32)
    expected = Results()
    expected.take(roomy.step([replace_session(one) for one in load.asked]).news())
    while roomy.has_work():
        expected.take(roomy.step().news())
    for name, tokens in load.results.tokens.items():
        if name.split("#")[0] in load.aborted:
            assert tokens == expected.tokens[name][: len(tokens)]
        else:
            assert tokens == expected.tokens[name], name


def replace_session(one: Submit) -> Submit:
    """The same text asked for by itself."""
    return Submit(one.request_id, one.prompt, one.params, one.priority, one.salt)
