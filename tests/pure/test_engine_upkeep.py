"""An engine between requests: when it waits, when it collects, and that it never does while a request runs."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from infergc.engine.census import TensorCensus, TensorGroup
from infergc.engine.garbage import PythonGarbage
from infergc.engine.loop import Engine
from infergc.engine.messages import Ask, Command, DiskNews, Outputs, Shutdown
from infergc.engine.process import serve
from infergc.engine.upkeep import Upkeep
from infergc.engine.wire import EngineChannel, FrameReader, decode_outputs, encode_frame
from infergc.sched.plan import StepPlan
from infergc.sim.executor import DoneFlight, SimExecutor
from samples.engines import facts, make_engine, run, submit
from samples.litter import OLDEST, litter, watched_collections

STEPS = 60
QUIET = 0.3  # seconds: many times the gap that tells an idle engine


class Littering(SimExecutor):
    """Every step leaves objects behind: in a request's steps, enough for full collections."""

    def launch(self, plan: StepPlan) -> DoneFlight:
        self.kept = [*getattr(self, "kept", []), litter(4000)]
        return super().launch(plan)


class Client:
    """The other end of an engine's socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._frames = FrameReader()
        self._waiting: list[bytes] = []

    def send(self, *commands: Command) -> None:
        self._socket.sendall(encode_frame(list(commands)))

    def hear(self) -> bytes:
        while not self._waiting:
            self._waiting += self._frames.feed(self._socket.recv(1 << 16))
        return self._waiting.pop(0)

    def until_finished(self, name: str) -> None:
        while all(delta.request_id != name or not delta.finish for delta in decode_outputs(self.hear()).news()):
            pass

    def says_nothing(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            return not self._waiting and not self._socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(None)


@contextmanager
def served(engine: Engine) -> Iterator[Client]:
    """A client of an engine that serves in a thread."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=serve, args=(engine, EngineChannel(theirs)))
        thread.start()
        client = Client(ours)
        try:
            client.hear()
            client.hear()
            yield client
        finally:
            client.send(Shutdown())
            thread.join()


def runs(payload: bytes) -> dict[str, int]:
    stats = decode_outputs(payload).stats
    assert stats is not None
    return stats["python_gc"]["runs"]


def test_full_collections_run_in_the_gap_and_never_while_a_request_runs() -> None:
    engine = make_engine(facts(max_len=512), executor_class=Littering, max_num_seqs=1)
    seen: list[tuple[int, bool]] = []  # generation, whether a request was running
    with served(engine) as client, watched_collections(lambda at: seen.append((at, engine.has_work()))):
        client.send(*(submit(name, [5, 6], max_tokens=STEPS) for name in ("one", "two")))  # no gap between them
        client.until_finished("two")
        assert runs(client.hear()) == {"idle": 1, "overdue": 0}
        assert client.says_nothing(QUIET), "nothing ran since, so nothing is to be found"
        full = [busy for generation, busy in seen if generation == OLDEST]
        assert (True not in full, len(full)) == (True, 1)
        assert sum(busy for _, busy in seen) > STEPS, "young collections go on"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_waits_for_a_gap_and_rests_between_two() -> None:
    clock, engine = Clock(), make_engine()
    with PythonGarbage({}, clock) as garbage:
        upkeep = Upkeep(engine, garbage, clock)
        assert upkeep.patience() is None, "nothing to look for"
        engine.step([submit("one", [5, 6], max_tokens=20)])
        assert upkeep.patience() == 0.0, "there is work"
        run(engine, [])
        assert upkeep.patience() == 0.05
        upkeep.run(waiting=True)
        assert garbage.collections["idle"] == 0, "a command has come"
        upkeep.run(waiting=False)
        assert garbage.collections["idle"] == 1
        assert upkeep.patience() is None
        clock.now += 0.25
        run(engine, [submit("two", [5, 6], max_tokens=20)])
        assert upkeep.patience() == 0.75, "not for each of many short requests"
        clock.now += 5.0
        assert upkeep.patience() == 0.0, "it is time"
        upkeep.run(waiting=False)
        run(engine, [submit("three", [5, 6], max_tokens=20)])
        clock.now += 5.0
        assert upkeep.patience() == 0.05


def test_questions_do_not_put_the_gap_off() -> None:
    """Whoever reads the metrics more often than gaps are long must not keep the engine from tidying up."""
    clock, engine = Clock(), make_engine()
    with PythonGarbage({}, clock) as garbage:
        upkeep = Upkeep(engine, garbage, clock)
        clock.now += 5.0
        run(engine, [submit("one", [5, 6], max_tokens=20)])
        for _ in range(4):
            wait = upkeep.patience()
            if wait is None:
                break
            clock.now += min(wait, 0.02)
            upkeep.run(waiting=wait > 0.02)
            assert engine.step([Ask(1, "figures")]).answers
        assert garbage.collections["idle"] == 1


def test_a_request_after_a_long_rest_is_not_held_up() -> None:
    clock, engine = Clock(), make_engine()
    with PythonGarbage({}, clock) as garbage:
        upkeep = Upkeep(engine, garbage, clock)

        def ask(*commands: Command, seconds: float) -> None:
            clock.now += seconds
            upkeep.run(waiting=bool(commands))
            engine.step(commands)

        ask(submit("one", [5, 6], max_tokens=100), seconds=600.0)
        ask(seconds=2.0)
        assert garbage.collections == {"idle": 0, "overdue": 0}
        ask(seconds=60.0)
        assert garbage.collections == {"idle": 0, "overdue": 1}


class WritingDisk(SimExecutor):
    """Its disk is at work all the time."""

    def news(self) -> list[DiskNews]:
        return []


def test_news_of_the_disk_is_looked_for_between_gaps_and_is_none() -> None:
    clock = Clock()
    engine = make_engine(executor_class=WritingDisk, host_cache_memory=64_000, disk_cache_dir="d")
    with PythonGarbage({}, clock) as garbage:
        upkeep = Upkeep(engine, garbage, clock)
        for seconds, collections in ((5.0, 1), (0.5, 1), (0.6, 2)):
            clock.now += seconds
            run(engine, [submit(f"at {clock.now}", [at % 50 for at in range(int(clock.now) % 7, 60)], max_tokens=4)])
            assert engine.awaits_news()
            for _ in range(7):
                wait = upkeep.patience()
                assert wait is not None
                assert wait <= 0.01
                clock.now += wait
                upkeep.run(waiting=False)
                engine.step()
            assert garbage.collections["idle"] == collections


class Seeing(SimExecutor):
    """An executor that says it has these tensors, look by look."""

    looks = (
        TensorCensus(),
        TensorCensus(tensors=3, bytes=96),
        TensorCensus(1, 32, cycles=(TensorGroup("float32", "8", "cpu", 2, 64, 5, "Node.tensor"),)),
    )

    def census(self, step: int) -> TensorCensus:
        self.looks, look = (*self.looks[1:], self.looks[0]), self.looks[0]
        return look


def test_it_looks_before_and_after_a_collection_and_tells_both() -> None:
    engine = make_engine(executor_class=Seeing)
    with PythonGarbage({}) as garbage:
        upkeep = Upkeep(engine, garbage)
        run(engine, [submit("one", [5, 6], max_tokens=4)])
        upkeep.run(waiting=False)
        told = upkeep.measured(Outputs(stats={})).stats
    assert told is not None
    assert told["tensors"] == {
        "live": 1,
        "bytes": 32,
        "suspects": [],
        "cycles": [{"dtype": "float32", "shape": "8", "device": "cpu", "tensors": 2, "bytes": 64}],
    }
