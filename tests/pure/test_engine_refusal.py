"""A request that memory refused is tried again as soon as there can be room for it, and not before."""

from collections.abc import Iterator

import numpy as np
import pytest

from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.heap.groups import GroupSpec, window_pages
from infergc.sched.request import Request
from infergc.sched.scheduler import Scheduler
from samples.engines import VOCAB, facts, make_engine, run, submit

CHUNK = 32
WINDOW = GroupSpec("window", 600, window=40)
LEAST = window_pages(WINDOW, 16, CHUNK)
SHAPES = {
    "full": ((GroupSpec("full", 1000),), 16),
    "window": ((WINDOW,), LEAST),
    "mixed": ((GroupSpec("full", 1000), WINDOW), LEAST + 4),
}
MOST_STEPS = 2000
Event = tuple[int, str, list[int], str | None]
BASE = [(i * 7) % VOCAB for i in range(96)]


def events(engine: Engine, loads: dict[int, list[Submit]]) -> Iterator[Event]:
    """Who got which tokens in which step; ``loads`` are the requests that come with a step."""
    step = 0
    while engine.has_work() or step <= max(loads):
        for delta in engine.step(list(loads.get(step, []))).news():
            yield step, delta.request_id, list(delta.tokens), delta.finish
        step += 1
        assert step < MOST_STEPS, f"still at work: {engine.heap.stats()}"


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("rest", [1, 2])
def test_who_finds_all_but_a_token_cached_does_not_wait_for_another_to_end(depth: int, rest: int):
    engine = make_engine(pages=16, pipeline_depth=depth)
    run(engine, [submit("seed", [*BASE[:48], 1], max_tokens=1)])
    load = [submit(f"r{i}", BASE[:48] + [i + 2] * rest, max_tokens=60, ignore_eos=True) for i in range(6)]
    first: dict[str, int] = {}
    for step, name, _, _ in events(engine, {0: load}):
        first.setdefault(name, step)
    assert max(first.values()) <= depth


def test_a_chunk_of_one_token_publishes_what_the_next_in_line_shares():
    """The last chunk ends a page; with it shared, the waiting text fits beside the one that goes on."""
    engine = make_engine(pages=5, max_num_batched_tokens=31, pipeline_depth=2)
    load = [submit("a", BASE[:32], max_tokens=20, ignore_eos=True), submit("b", [*BASE[:32], 1], max_tokens=1)]
    first: dict[str, int] = {}
    for step, name, _, _ in events(engine, {0: load}):
        first.setdefault(name, step)
    assert first["b"] == first["a"] + 2


def random_loads(seed: int, longest: int) -> dict[int, list[Submit]]:
    """Texts that often share all but a token with others."""
    rng = np.random.default_rng(seed)
    loads: dict[int, list[Submit]] = {}
    for number in range(30):
        length = int(rng.integers(1, min(longest, len(BASE))))
        own = 1 if rng.random() < 0.6 else int(rng.integers(0, length + 1))
        shared = length // 16 * 16 if own == 1 else length - own
        prompt = BASE[:shared] + rng.integers(0, VOCAB, max(own, 1)).tolist()
        step = int(rng.integers(0, 60))
        loads.setdefault(step, []).append(submit(f"r{number}", prompt, max_tokens=int(rng.integers(1, 50))))
    return loads


def engine_of(shape: str, depth: int, caching: bool) -> Engine:
    groups, pages = SHAPES[shape]
    return make_engine(
        facts(groups, eos=(3,), max_len=150),
        pages=pages,
        pipeline_depth=depth,
        max_num_batched_tokens=CHUNK,
        max_num_seqs=6,
        enable_prefix_caching=caching,
        admission_policy="page-each",  # others expect less of those that run as time goes on, and may grant later
    )


def try_always(patch: pytest.MonkeyPatch) -> None:
    """Ask memory in every step, and fail if it grants what stands as refused."""
    start = Scheduler._start

    def may_admit(self: Scheduler) -> bool:
        return bool(self.waiting) and len(self.running) < self.config.max_num_seqs

    def checked(self: Scheduler, request: Request, *args, **kwargs) -> int:
        stands = self._refused is request and not kwargs.get("whole_pages")
        count = start(self, request, *args, **kwargs)
        assert not (stands and count), f"{request.id} stood as refused, and there is room for it"
        return count

    patch.setattr(Scheduler, "_may_admit", may_admit)
    patch.setattr(Scheduler, "_start", checked)


def texts(found: list[Event]) -> dict[str, list[int]]:
    told: dict[str, list[int]] = {}
    for _, name, tokens, _ in found:
        told.setdefault(name, []).extend(tokens)
    return told


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_asking_memory_in_every_step_changes_nothing(shape: str, depth: int, caching: bool, monkeypatch):
    """With a prefix cache, asking counts as use of the pages found: others may be evicted, and steps shift."""
    for seed in range(4):
        engine = engine_of(shape, depth, caching)
        loads = random_loads(seed, engine.ready.max_model_len)
        found = list(events(engine, loads))
        with monkeypatch.context() as patch:
            try_always(patch)
            asking = list(events(engine_of(shape, depth, caching), loads))
        assert texts(found) == texts(asking), f"seed {seed}"
        assert caching or found == asking, f"seed {seed}"
