"""What if: the same load with another pool, another machine, another cache. Each is a simulated run, not an opinion."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from infergc.planner.probe import Engine, Outcome, Prober, tried
from infergc.planner.search import most_clients

BUDGET = 2048  # tokens kept of a text: what TriAttention is run with (docs/planner.md)
LONG = BUDGET * 3 // 2  # tokens of a text from which on bounding it is tried
TIER = 4  # times the pool: a cache whose larger part lies elsewhere
_EIGHT = "K and V in 8 bits"
_PRECISION = 0.05  # of how many run at once
_CHUNK = 2048  # tokens of a step with bounded texts: a sequence holds two chunks beside its window


@dataclass(frozen=True, slots=True)
class Case:
    """One engine at its full load.

    Attributes:
        name: as in JSON.
        words: for people.
        clients: whose requests run at once.
        outcome: of the run.
    """

    name: str
    words: str
    clients: int
    outcome: Outcome

    def rate_gain(self, base: "Case") -> float:
        """Requests a second more than with ``base``, as a share of those."""
        return self.outcome.rate / base.outcome.rate - 1 if base.outcome.rate else 0.0


class Cases:
    """What is tried beside the engine that was asked for.

    Args:
        prober: of the load.
        engine: that was asked for.
        base: what it gave.
        most: clients that are tried.
    """

    def __init__(self, prober: Prober, engine: Engine, base: Case, most: int) -> None:
        self._prober = prober
        self._engine = engine
        self._base = base
        self._most = most

    def all(self, certain: int) -> dict[str, Case]:
        """Those that make sense for this load, model and machine, by name; none where rates cannot be told.

        Args:
            certain: requests that never preempt each other, however long they are.
        """
        if not self._base.outcome.steady:
            return {}
        makers: tuple[Callable[[], list[Case | None]], ...] = (
            self._pools,
            self._machines,
            self._caches,
            self._crowd,
            self._bounded,
            lambda: self._certain(certain),
        )
        made = [case for maker in makers for case in maker() if case is not None]
        return {case.name: case for case in made}

    def _pools(self) -> list[Case | None]:
        """Half and twice the memory, and values of one byte in the same memory."""
        base, engine = self._base, self._engine
        half = replace(engine, kv_bytes=engine.kv_bytes // 2)
        twice = replace(engine, kv_bytes=engine.kv_bytes * 2)
        found = [
            self._searched("half_pool", "half the KV memory", half, base.clients // 2),
            self._grown("double_pool", "twice the KV memory", twice, base.clients * 2),
        ]
        times = engine.model.value_bytes
        shrunk = replace(engine, kv_bytes=engine.kv_bytes * times, shrink=times)
        if times == 2 and found[1] is not None:  # as many as in twice the memory
            return [*found, self._not_worse(self._at("kv_8_bits", _EIGHT, shrunk, found[1].clients), shrunk)]
        return [*found, self._grown("kv_8_bits", _EIGHT, shrunk, base.clients * times)]

    def _machines(self) -> list[Case | None]:
        """Twice as fast in one thing or the other."""
        engine, machine, clients = self._engine, self._engine.machine, self._base.clients
        if not machine.splits:
            faster = replace(engine, machine=machine.faster(compute=2, reading=2))
            return [self._at("double_speed", "a machine twice as fast", faster, clients)]
        compute = replace(engine, machine=machine.faster(compute=2))
        reading = replace(engine, machine=machine.faster(reading=2))
        return [
            self._at("double_compute", "twice the operations a second", compute, clients),
            self._at("double_bandwidth", "twice the bandwidth", reading, clients),
        ]

    def _caches(self) -> list[Case | None]:
        """No prefix cache, another order of eviction, a larger cache; only where prompts may begin alike."""
        if not self._prober.load.shares:
            return []
        engine, clients = self._engine, self._base.clients
        without = replace(engine, settings={**engine.settings, "enable_prefix_caching": False})
        larger = replace(engine, kv_bytes=engine.kv_bytes * TIER)
        found = [
            self._searched("no_prefix_cache", "no prefix cache", without, clients),
            self._at("large_cache", f"a cache of {TIER} times the size", larger, clients),
        ]
        if not self._base.outcome.evicted:
            return found
        lru = replace(engine, policy="lru")
        return [*found, self._at("lru", "the least recently used goes first", lru, clients)]

    def _crowd(self) -> list[Case | None]:
        """Twice as many let in as run at once."""
        clients = min(self._most, 2 * self._base.clients)
        if clients == self._base.clients or clients > self._prober.room:
            return []
        return [self._at("crowd", "twice as many let in", self._engine, clients)]

    def _certain(self, certain: int) -> list[Case | None]:
        """Only as many let in as never preempt each other."""
        if certain >= self._base.clients:
            return []
        return [self._at("certain", "as many as never preempt each other", self._engine, certain)]

    def _bounded(self) -> list[Case | None]:
        """At most so many tokens kept of each text: the engine's own sliding windows, in every layer."""
        model, lengths = self._engine.model, self._prober.load.lengths
        if model.windows or lengths.max() < LONG:
            return []
        chunk = min(_CHUNK, self._engine.settings.get("max_num_batched_tokens", _CHUNK))
        bounded = replace(
            self._engine,
            model=replace(model, windows=(BUDGET,) * model.layers),
            settings={**self._engine.settings, "max_num_batched_tokens": chunk},
        )
        guess = int(self._base.clients * lengths.mean() / (BUDGET + _CHUNK))
        return [self._searched("bounded", f"{BUDGET:,} tokens kept of each text", bounded, guess)]

    def _grown(self, name: str, words: str, engine: Engine, guess: int) -> Case | None:
        """With more memory: as many more as it takes, or as many as before where that is faster."""
        return self._not_worse(self._searched(name, words, engine, guess), engine)

    def _not_worse(self, case: Case | None, engine: Engine) -> Case | None:
        """More that run at once need not be faster, and nobody has to let them in."""
        if case is None or case.rate_gain(self._base) >= 0 or case.clients == self._base.clients:
            return case
        same = self._at(case.name, case.words, engine, self._base.clients)
        return same if same is not None and same.outcome.rate > case.outcome.rate else case

    def _searched(self, name: str, words: str, engine: Engine, guess: int) -> Case | None:
        """None where a run has too few requests to fill so many places; twice as many as before are told as such."""
        most, before = min(self._most, self._prober.room), self._base.clients
        found = most_clients(self._prober, engine, min(guess, most), most, _PRECISION)
        if found is None or (self._prober.load.recorded and found[0] == most and before < most < 2 * before):
            return None
        return Case(name, words, *found)

    def _at(self, name: str, words: str, engine: Engine, clients: int) -> Case | None:
        outcome = tried(lambda: self._prober.flat_out(engine, clients))
        return Case(name, words, clients, outcome) if outcome else None
