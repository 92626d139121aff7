"""The three scenarios with real memory: what each way of keeping KV takes of the device, as its driver counts it.

Contiguous ways are served by the plain loop; every buffer that it takes is taken from the driver, and the count is
read when a new one stands beside the one it replaces. Ways with pages are served by the engine, with tensors: its arena
is as large as the simulator says that they need, and the count is read around making it. See docs/gpu-benchmark.md.
"""

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch

from gpu_sections.driver import DriverMemory, HostMemory, Memory, OutOfMemoryError
from gpu_sections.engines import configuration
from gpu_sections.loads import load_of, prompts_of
from gpu_sections.models import NoRoomError, geometry, kv_bytes_per_token, model_directory
from infergc.bench.gpu.figure import NO_TIME, Figure, left_out
from infergc.bench.gpu.section import Setting
from infergc.bench.scenarios.allocators import Allocator, Doubling, Reserved
from infergc.bench.scenarios.outcome import NO_LIMITS
from infergc.bench.scenarios.plain import PlainLoop
from infergc.bench.scenarios.systems import COST, OURS, PAGED, TOKEN_BYTES, Load, OnEngine
from infergc.config import EngineConfig
from infergc.engine.assembly import assemble
from infergc.engine.messages import Submit
from infergc.params import SamplingParams
from infergc.units import ceil_div
from infergc.worker.factory import create_executor

PAGE = 16  # tokens
TITLES = {1: "long contexts", 2: "concurrent", 3: "one system prompt"}
Taken = dict[str, int]  # system → bytes


class Mirrored:
    """Implements ``Allocator`` by another one; each buffer that it hands out is taken from real memory.

    Args:
        inner: decides.
        memory: where buffers come from.
        token_bytes: of KV.

    Attributes:
        most: bytes in use at most, beyond those before the first buffer.
    """

    def __init__(self, inner: Allocator, memory: Memory, token_bytes: int) -> None:
        self.most = 0
        self._inner, self._memory, self._token_bytes = inner, memory, token_bytes
        self._before = memory.held()
        self._buffers: dict[int, tuple[int, int]] = {}  # text → address, tokens

    @property
    def held(self) -> int:
        """See ``Allocator``."""
        return self._inner.held

    @property
    def peak(self) -> int:
        """See ``Allocator``."""
        return self._inner.peak

    @property
    def copied(self) -> int:
        """See ``Allocator``."""
        return self._inner.copied

    @copied.setter
    def copied(self, tokens: int) -> None:
        self._inner.copied = tokens

    def admit(self, text: int, known: int, first: int, running: int) -> bool:
        """See ``Allocator``."""
        held = self._inner.held
        admitted = self._inner.admit(text, known, first, running)
        if admitted:
            self._place(text, self._inner.held - held)
        return admitted

    def grow(self, text: int, tokens: int) -> bool:
        """See ``Allocator``."""
        held = self._inner.held
        grown = self._inner.grow(text, tokens)
        if self._inner.held != held:
            self._place(text, self._buffers[text][1] + self._inner.held - held)
        return grown

    def free(self, text: int) -> None:
        """See ``Allocator``."""
        self._inner.free(text)
        self._memory.give_back(self._buffers.pop(text)[0])

    def close(self) -> None:
        """Give everything back."""
        for address, _ in self._buffers.values():
            self._memory.give_back(address)
        self._buffers.clear()

    def _place(self, text: int, tokens: int) -> None:
        """A buffer of its own, beside the one that it replaces until that is copied."""
        new = self._memory.take(tokens * self._token_bytes)
        old = self._buffers.get(text)
        self._buffers[text] = new, tokens
        self.most = max(self.most, self._memory.held() - self._before)
        if old is not None:
            self._memory.give_back(old[0])


@dataclass(frozen=True)
class Served:
    """What came of requests in an arena.

    Attributes:
        taken: bytes that the device had less after the engine's storage was made.
        arena: bytes of them that are pages; the rest is what steps keep beside them.
        preempted: times that a request gave way.
    """

    taken: int
    arena: int
    preempted: int


def measure(setting: Setting) -> Iterator[Figure]:
    """One scenario after the other."""
    try:
        model = model_directory("1b", setting)
    except NoRoomError as error:
        yield left_out("all", str(error))
        return
    loads = {number: load_of(number, setting) for number in TITLES}
    served = Serving(model, setting, max(loads.values(), key=lambda load: load.longest))
    began = setting.left
    for number, load in loads.items():
        if setting.left < (began - setting.left) / max(1, number - 1):  # as long as one has taken so far
            yield left_out(f"{number} {TITLES[number]}", NO_TIME)
            continue
        taken: Taken = {}
        memory = DriverMemory() if setting.device == "cuda" else HostMemory()
        yield from contiguous(number, load, memory, kv_bytes_per_token(geometry(model)), taken)
        yield from paged(number, load, served, taken)
        yield from saved(number, taken)
    served.close()


def contiguous(number: int, load: Load, memory: Memory, token_bytes: int, taken: Taken) -> Iterator[Figure]:
    """The baselines (a) and (b)."""
    for name, kind in (("reserved", Reserved), ("doubled", Doubling)):
        what = f"{number} {TITLES[number]}, {name}"
        mirrored = Mirrored(kind(load.longest * load.seats * 4, load.longest), memory, token_bytes)
        try:
            PlainLoop(load.requests, mirrored, COST, load.seats, load.batch, inf).run(NO_LIMITS, lambda _: None)
        except OutOfMemoryError as error:
            yield left_out(what, f"does not fit: {error}, {mirrored.most / 2**30:.1f} GiB being held")
        else:
            taken[name] = mirrored.most
            asked = mirrored.peak * token_bytes / 2**30
            yield Figure(what, mirrored.most / 2**30, "GiB", note=f"{asked:.2f} GiB asked for")
        finally:
            mirrored.close()


def paged(number: int, load: Load, serving: "Serving", taken: Taken) -> Iterator[Figure]:
    """Pages with nothing shared (c), and ours."""
    for system in (PAGED, OURS):
        needed = system.run(load, None, NO_LIMITS, lambda _: None).peak_bytes // TOKEN_BYTES
        served = serving.run(load, system, needed)
        taken[system.name] = served.taken
        note = f"arena {served.arena / 2**30:.2f} GiB; {len(load.requests)} requests, {served.preempted} gave way"
        yield Figure(f"{number} {TITLES[number]}, {system.name}", served.taken / 2**30, "GiB", note=note)


def saved(number: int, taken: Taken) -> Iterator[Figure]:
    """How far ours is below each other."""
    for name, size in taken.items():
        if name != OURS.name and size:
            below = 100 * (1 - taken[OURS.name] / size)
            yield Figure(f"{number} {TITLES[number]}, ours below {name}", below, "%")


class Serving:
    """A model on the device, and engines around it.

    Args:
        model: its directory.
        setting: of the run.
        largest: the load of the longest texts.
    """

    def __init__(self, model: Path, setting: Setting, largest: Load) -> None:
        self._model, self._setting = model, setting
        self._on_gpu = setting.device == "cuda"
        self._executor = create_executor(self._configuration(largest, 2 * largest.longest))

    def run(self, load: Load, system: OnEngine, tokens: int) -> Served:
        """Serve a load in an arena of so many tokens, or of its longest text if that is more.

        Raises:
            RuntimeError: a request did not run to its end.
        """
        settings = {**system.settings, "retention_policy": system.policy}
        before = self._held()
        engine = assemble(self._configuration(load, tokens, **settings), self._executor)
        arena = engine.ready.memory["kv"]
        taken = self._held() - before if self._on_gpu else arena
        prompts, commands = prompts_of(load, engine.ready.vocab_size), []
        for at, (request, prompt) in enumerate(zip(load.requests, prompts, strict=True)):
            params = SamplingParams(max_tokens=request.output_len, ignore_eos=True, temperature=0, seed=at)
            commands.append(Submit(str(at), prompt, params))
        ended = 0
        while commands or engine.has_work():
            told, commands = engine.step(commands), []
            ended += sum(delta.finish == "length" for delta in told.deltas)
        self._executor.release()
        if ended != len(load.requests):
            raise RuntimeError(f"{ended} of {len(load.requests)} requests ran to their end")
        return Served(taken, arena, engine.scheduler.counters.preemptions)

    def close(self) -> None:
        """Free the model."""
        self._executor.close()

    def _configuration(self, load: Load, tokens: int, **settings: Any) -> EngineConfig:
        longest = load.longest + PAGE
        tokens = max(ceil_div(tokens, PAGE) * PAGE, longest)
        return configuration(self._model, self._setting, load.seats, tokens, longest, **settings)

    def _held(self) -> int:
        """Bytes of the GPU in use, without what torch merely keeps; 0 where there is none."""
        if not self._on_gpu:
            return 0
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        return total - free
