"""Operations on what holds sequences together: sessions, beam groups, and the collector that frees what they leave."""

from typing import TYPE_CHECKING, Any

from infergc.heap.collector import Collector, Triggers
from infergc.heap.heap import Heap
from infergc.heap.objects import BeamGroup, Session
from infergc.heap.provenance import Place, taken_by
from laws.oracle import LawBroken, reachable, references
from laws.streams import Step, Stream, Whole

if TYPE_CHECKING:
    from laws.shapes import Shape

MOST = 4  # sessions, and beam groups
BUSY = Triggers(minor_pages=2, major_pages=12, watermark=0.5)


class Wholes:
    """The part of a world that joins and parts, and collects. ``World`` is the other part.

    Attributes:
        wholes: open sessions, and groups of searches that go on.
        parked: what open sessions keep of streams that ended.
    """

    shape: "Shape"
    heap: Heap
    streams: list[Stream]
    steps: list[Step]
    seen: Any

    def __init__(self) -> None:
        self.collector = Collector(self.heap, BUSY)
        self.wholes: list[Whole] = []
        self.parked: list[Stream] = []

    # ---- operations: each returns False if there was nothing to do

    def do_session(self, a: int, b: int, c: int) -> bool | None:
        return self._begin(self.heap.session) if len(self._open(Session)) < MOST else False

    def do_group(self, a: int, b: int, c: int) -> bool | None:
        return self._begin(self.heap.beam_group) if len(self._open(BeamGroup)) < MOST else False

    def do_join(self, a: int, b: int, c: int) -> bool | None:
        """A request of a session starts to run, or a hypothesis comes to hold pages."""
        alone = [stream for stream in self.streams if stream.whole is None]
        if not alone or not self.wholes:
            return False
        self._join(self.wholes[b % len(self.wholes)], alone[a % len(alone)])
        return None

    def do_leave(self, a: int, b: int, c: int) -> bool | None:
        """A hypothesis loses, and goes; a session's request is given up, and goes on by itself."""
        members = [stream for stream in self.streams if stream.whole is not None]
        if not members:
            return False
        self._leave(members[a % len(members)])
        return None

    def do_rejoin(self, a: int, b: int, c: int) -> bool | None:
        """A hypothesis goes over to another group, perhaps while marking goes on: for a moment it is a root."""
        groups = self._open(BeamGroup)
        members = [stream for stream in self.streams if isinstance(stream.whole, BeamGroup)]
        if not members or len(groups) < 2:
            return False
        stream = members[a % len(members)]
        others = [group for group in groups if group is not stream.whole]
        self.collector.major(c % 24)
        self.heap.graph.root(stream.sequence)
        self.heap.leave(stream.whole, stream.sequence)
        self._join(others[b % len(others)], stream)
        return None

    def do_drop(self, a: int, b: int, c: int) -> bool | None:
        """A session is deleted, whatever of it runs; a beam search is cancelled, or is over."""
        if not self.wholes:
            return False
        whole = self.wholes.pop(a % len(self.wholes))
        self.parked = [stream for stream in self.parked if stream.whole is not whole]
        if isinstance(whole, BeamGroup):
            for stream in [stream for stream in self.streams if stream.whole is whole]:
                self._end_hypothesis(stream, cancelled=bool(b % 3))
        self.heap.graph.unroot(whole)
        return None

    def do_shed(self, a: int, b: int, c: int) -> bool | None:
        """Memory is short: a session gives up what it has parked, and is closed."""
        keeping = [whole for whole in self.wholes if any(stream.whole is whole for stream in self.parked)]
        if not keeping:
            return False
        whole = keeping[a % len(keeping)]
        self._replace_turn(whole, None)
        self.wholes.remove(whole)
        self.heap.graph.unroot(whole)
        return None

    def do_cycles(self, a: int, b: int, c: int) -> bool | None:
        """Trial deletion, within a budget that may be small."""
        work = self.heap.collect_cycles(1 << a % 7)
        self._after_collection()
        if not self.heap.graph.candidates:
            garbage = self.heap.graph.objects.keys() - reachable(self.heap)
            self._expect(not garbage, f"law 2: objects {sorted(garbage)} are garbage that trial deletion left")
        self.seen["cycle"] += work > 0
        return work > 0

    def do_collect(self, a: int, b: int, c: int) -> bool | None:
        """What the engine has collected between steps, or while nothing runs."""
        budget = 1 << a % 7
        work = self.collector.collect(budget, idle=b % 2 == 0)
        found = self.collector.take_findings()
        self._expect(not found, f"law 2: the collector found {found}")
        self._after_collection()
        return work > 0

    def do_major(self, a: int, b: int, c: int) -> bool | None:
        """A slice of a major collection; garbage that it finds is what trial deletion had no time for yet."""
        self.collector.major(1 << a % 4)
        found = self.collector.take_findings()
        self._expect(not (found.leaks or found.corrupt), f"law 2: a major collection found {found}")
        self._after_collection()
        self.seen["garbage"] += len(found.garbage) > 0
        return None

    def do_verify(self, a: int, b: int, c: int) -> bool | None:
        """All is well, says the backup trace; or it finds exactly what is wrong, and mends it."""
        self._verified("")
        live = [stream for stream in self.streams if self._pages_of(stream, 0)]
        if not live:
            return None
        stream = live[a % len(live)]
        group = b % len(self.heap.groups)
        page = self._pages_of(stream, group)[c % len(self._pages_of(stream, group))]
        if a & 1024 and references(self.heap, group)[page] > 1:
            self.heap.groups[group].release([(page, 1)])
            self._verified(f"pages {page} to {page} count 1 references too few")
        elif a & 1024 == 0:
            times = 1 + a // 2048 % 3
            for _ in range(times):
                self.heap.groups[group].retain([(page, 1)], taken_by(stream.sequence.id, Place.SHARE))
            told = "" if times == 1 else f" {times} times"
            self._verified(f"page {page} leaked{told}; last taken by {stream.sequence.owner} in share")
        return None

    # ---- steps of the operations above

    def _open(self, kind: type[Whole]) -> list[Whole]:
        return [whole for whole in self.wholes if isinstance(whole, kind)]

    def _begin(self, make: Any) -> None:
        self.wholes.append(make(f"w{self.heap._next_id}"))

    def _join(self, whole: Whole, stream: Stream) -> None:
        self.heap.join(whole, stream.sequence)
        if isinstance(whole, BeamGroup):
            self.heap.graph.unroot(stream.sequence)
        stream.whole = whole

    def _leave(self, stream: Stream) -> None:
        if isinstance(stream.whole, BeamGroup):
            self._end_hypothesis(stream, cancelled=False)
        else:
            self.heap.leave(stream.whole, stream.sequence)
            stream.whole = None

    def _end_hypothesis(self, stream: Stream, *, cancelled: bool) -> None:
        """A hypothesis is cancelled with its group, or leaves it; steps in flight may still read it."""
        if cancelled:
            self.heap.retire(stream.sequence)
            self.seen["cancelled in flight"] += any(row.stream is stream for step in self.steps for row in step.rows)
        else:
            self.heap.leave(stream.whole, stream.sequence)
        self._ended(stream)

    def _end_turn(self, stream: Stream, *, replaces: bool) -> None:
        """A request of a session has finished: the session keeps what is sealed, in place of the turn before or not."""
        sealed = stream.sequence.sealed * self.shape.page_tokens
        self.heap.close(stream.sequence)
        self._ended(stream)
        whole = stream.whole
        if whole not in self.wholes:
            return
        turn = Stream(stream.sequence, stream.tokens[:sealed], stream.cells[:sealed], sealed, stream.slid)
        turn.private, turn.whole = stream.private, whole
        if replaces:
            self._replace_turn(whole, turn)
        self.parked.append(turn)
        self.heap.check()
        self._verify(turn, "law 7")
        self.seen["parked"] += sealed > 0

    def _replace_turn(self, whole: Whole, turn: Stream | None) -> None:
        for older in [stream for stream in self.parked if stream.whole is whole and stream is not turn]:
            self.heap.leave(whole, older.sequence)
            self.parked.remove(older)

    def _ended(self, stream: Stream) -> None:
        """No request runs in the stream any more: what steps in flight sample for it is nobody's."""
        self.streams.remove(stream)
        for step in self.steps:
            for row in step.rows:
                if row.stream is stream:
                    row.sampled = False

    def _after_collection(self) -> None:
        """What roots reach is still there, and what parked turns hold is still theirs."""
        kept = [*(stream.sequence for stream in (*self.streams, *self.parked)), *self.wholes]
        gone = [one.id for one in kept if self.heap.graph.objects.get(one.id) is not one]
        self._expect(not gone, f"law 2: objects {gone} were freed, but roots reach them")
        self.heap.check()
        self._verify_turns()

    def _verify_turns(self) -> None:
        """Parked turns hold their own prefix, as far as it is still sealed: reclaim may open a way through them."""
        for stream in self.parked:
            del stream.cells[stream.sequence.sealed * self.shape.page_tokens :]
            stream.computed = len(stream.cells)
            self._verify(stream, "law 7")

    def _verified(self, expected: str) -> None:
        """The backup trace finds this and nothing else; "" for nothing."""
        found = self.collector.verify()
        self.collector.take_findings()
        findings = len(found.leaks) + len(found.corrupt) + len(found.garbage)
        right = findings == (expected != "") and expected in str(found)
        self._expect(right, f"law 2: verify found {str(found) or 'nothing'}, there is {expected or 'nothing'}")
        self._after_collection()

    def _pages_of(self, stream: Stream, group: int) -> list[int]:
        extents = self.heap.extents(stream.sequence, group)
        return [page for first, length in extents for page in range(first, first + length)]

    def _verify(self, stream: Stream, law: str) -> None:
        raise NotImplementedError

    @staticmethod
    def _expect(condition: bool, message: str) -> None:
        if not condition:
            raise LawBroken(message)
