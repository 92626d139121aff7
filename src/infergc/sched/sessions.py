"""Sessions: the KV of a conversation's last turn is kept from one turn to the next.

A session is a root while it is open. It holds the sequences of its requests that run and that of its latest finished
turn, and they hold it; so closing a session whose request still runs leaves a cycle behind when that request ends.
"""

from collections import Counter
from collections.abc import Iterator

from infergc.heap.heap import Heap
from infergc.heap.objects import Sequence, Session
from infergc.sched.request import Request

Key = tuple[str, str]  # tenant's salt, name

CLOSED_FOR = ("asked", "idle", "memory", "limit")  # why a session was closed; who watches clocks says "idle"


class Sessions:
    """Open sessions by tenant and name, the least recently used first.

    Attributes:
        closed: how many were closed, by reason.
        most: how many may be open; the least recently used goes beyond that.

    Args:
        heap: where they live.
        most: see above.
    """

    def __init__(self, heap: Heap, most: int) -> None:
        self.closed: Counter[str] = Counter()
        self._heap = heap
        self.most = most
        self._open: dict[Key, Session] = {}

    def touch(self, request: Request) -> None:
        """A request came: open its session if it is not, and note the use. Cost: O(1)."""
        if not request.session:
            return
        key = (request.namespace.salt, request.session)
        session = self._open.pop(key, None)
        self._open[key] = session if session is not None else self._heap.session(request.session)
        self.limit(self.most)

    def enter(self, request: Request, sequence: Sequence) -> None:
        """A request starts to run. Its session may have been closed since it came: then it is opened anew."""
        if request.session:
            self.touch(request)
            self._heap.join(self._open[request.namespace.salt, request.session], sequence)

    def part(self, sequence: Sequence) -> None:
        """A sequence is given up before its request finished: the session goes on with what it had."""
        for session in sessions_of(sequence):
            self._heap.leave(session, sequence)

    def finished(self, sequence: Sequence) -> None:
        """A request finished, and its sequence is parked: it takes the place of the turn before."""
        for session in sessions_of(sequence):
            for older in _parked(session):
                if older is not sequence:
                    self._heap.leave(session, older)

    def close(self, key: Key, reason: str) -> str:
        """Close a session: "closed", "unknown" if it is not open, "busy" if it is to be idle and a request of it runs.

        What runs goes on. Cost: O(sequences of the session), and what counts free.
        """
        if key not in self._open:
            return "unknown"
        if reason == "idle" and _running(self._open[key]):
            return "busy"
        self._close(key, reason)
        return "closed"

    def limit(self, most: int) -> None:
        """Let so many be open from now on, and close those beyond that. Cost: as ``close`` for each."""
        self.most = most
        while len(self._open) > most:
            self._close(next(iter(self._open)), "limit")

    def shed(self) -> bool:
        """Give up what the least recently used session that keeps something has parked; False if none does.

        For when memory is short. The pages stay cached as long as nobody needs them. Cost: O(open sessions).
        """
        for key, session in self._open.items():
            parked = list(_parked(session))
            if parked:
                for sequence in parked:
                    self._heap.leave(session, sequence)
                self._close(key, "memory")
                return True
        return False

    def __len__(self) -> int:
        return len(self._open)

    def _close(self, key: Key, reason: str) -> None:
        self._heap.graph.unroot(self._open.pop(key))
        self.closed[reason] += 1


def sessions_of(sequence: Sequence) -> list[Session]:
    """The session that a sequence belongs to, if it does."""
    return [held for held in sequence.holds.values() if isinstance(held, Session)]


def _running(session: Session) -> bool:
    return any(isinstance(one, Sequence) and one.slot >= 0 for one in session.holds.values())


def _parked(session: Session) -> Iterator[Sequence]:
    held = [one for one in session.holds.values() if isinstance(one, Sequence)]
    return (one for one in held if one.slot < 0)
