"""Sessions: the KV of a conversation's last turn is kept from one turn to the next.

A session is a root while it is open, and once more for each text asked for in it that has not come to its end: so
a request keeps the session that it was submitted to, whether that is closed meanwhile or not. It holds the sequences of
its requests that run and that of its latest finished turn, and they hold it; so closing a session whose request still
runs leaves a cycle behind when that request ends.
"""

from collections import Counter
from collections.abc import Iterator

from infergc.heap.heap import Heap
from infergc.heap.objects import Sequence, Session

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
        self._ending: dict[int, Session] = {}  # closed, with texts that have not come to their end; by id

    def bind(self, key: Key, texts: int) -> Session:
        """A request for so many texts came: open its session if it is not, and keep that until each was released.

        Cost: O(texts), and as ``limit``.
        """
        session = self._open.pop(key, None) or self._heap.session(key[1])
        self._open[key] = session
        for _ in range(texts):
            self._heap.graph.root(session)
        self.limit(self.most)
        return session

    def release(self, key: Key, session: Session) -> None:
        """A text came to its end, and its session was used until now. Cost: O(1), and what counts free."""
        if self._open.get(key) is session:
            self._open[key] = self._open.pop(key)
        self._heap.graph.unroot(session)
        if not session.roots:
            self._ending.pop(session.id, None)

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
        """Close a session: "closed", "unknown" if it is not open, "busy" if it is to be idle and has a request.

        What runs or waits goes on. Cost: O(sequences of the session), and what counts free.
        """
        if key not in self._open:
            return "unknown"
        if reason == "idle" and self._busy(key):
            return "busy"
        self._close(key, reason)
        return "closed"

    def limit(self, most: int) -> None:
        """Let so many be open from now on, and close those beyond that, idle ones first.

        Cost: O(busy sessions) to find each, and as ``close``.
        """
        self.most = most
        while len(self._open) > most:
            idle = (key for key in self._open if not self._busy(key))
            self._close(next(idle, next(iter(self._open))), "limit")

    def shed(self) -> bool:
        """Give up what one session has parked; False if none has anything.

        For when memory is short. Those that were closed go first, since no turn will come to take it up, then idle
        ones, which are closed, then those with a request, which stay open; of each kind the least recently used. The
        pages stay cached as long as nobody needs them. Cost: O(sessions log sessions).
        """
        if any(self._give_up(session) for session in self._ending.values()):
            return True
        for key in sorted(self._open, key=self._busy):
            if self._give_up(self._open[key]):
                if not self._busy(key):
                    self._close(key, "memory")
                return True
        return False

    def __len__(self) -> int:
        return len(self._open)

    def _busy(self, key: Key) -> bool:
        """Whether a request of an open session waits or runs: it has a root besides that of being open."""
        return self._open[key].roots > 1

    def _close(self, key: Key, reason: str) -> None:
        session = self._open.pop(key)
        self._give_up(session)
        if session.roots > 1:
            self._ending[session.id] = session
        self._heap.graph.unroot(session)
        self.closed[reason] += 1

    def _give_up(self, session: Session) -> bool:
        """Let go of the turns that have finished; returns whether there were any."""
        parked = list(_parked(session))
        for sequence in parked:
            self._heap.leave(session, sequence)
        return bool(parked)


def sessions_of(sequence: Sequence) -> list[Session]:
    """The session that a sequence belongs to, if it does."""
    return [held for held in sequence.holds.values() if isinstance(held, Session)]


def _parked(session: Session) -> Iterator[Sequence]:
    held = [one for one in session.holds.values() if isinstance(one, Sequence)]
    return (one for one in held if one.slot < 0)
