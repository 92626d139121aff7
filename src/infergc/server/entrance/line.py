"""The line before the engine: how many wait in it, who may still join, and when to come again."""

from collections import Counter, deque
from collections.abc import Callable
from http import HTTPStatus
from math import ceil
from time import monotonic

from infergc.client import EngineSupervisor
from infergc.server.errors import ApiError
from infergc.server.headers import RETRY_AFTER, retry_after
from infergc.wording import counted

QUEUE_FULL, QUEUE_TIMEOUT = "queue_full", "queue_timeout"
REFUSED_FOR = (QUEUE_FULL, QUEUE_TIMEOUT)
_LATELY = 32  # requests
_LONGEST_BREAK = 60  # seconds: of who asks once a minute nobody notices anything


class Line:
    """Requests that have not started, from the moment their head was read, each choice of theirs counted singly.

    What is being read and tokenised has its place at once, so a burst cannot slip in between. Of those that the engine
    has, it counts who has not started by the latest news, and whoever was sent since. Slots that are free by that news
    are as good as taken by the first in line, unless somebody waits all the same: then it is not slots that are short.

    Belongs to the event loop of the client.

    Args:
        client: of the engine.
        most: that may wait.
        now: a clock, in seconds.

    Attributes:
        most: see above.
        reading: choices of requests that are being read or tokenised.
        refused: requests refused so far, by reason of ``REFUSED_FOR``.
    """

    def __init__(self, client: EngineSupervisor, most: int, now: Callable[[], float] = monotonic) -> None:
        self.most = most
        self.reading = 0
        self.refused: Counter[str] = Counter()
        self._client = client
        self._drain = Drain(now)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return max(0, self._length())

    def enter(self) -> "Place":
        """Take the place of a request of which nothing but the head was read.

        Raises:
            ApiError: 429, there is none.
            EngineDeadError: there is no engine.
        """
        self._client.check_alive()
        self._check_room(1)
        self.reading += 1
        return Place(self)

    def widen(self, by: int) -> None:
        """A request turned out to have more choices. One that stands alone has room, or it would never have any.

        Raises:
            ApiError: 429, there is no room for so many more.
        """
        alone = self.reading == 1 and not self._client.open_requests
        if by and not alone:
            self._check_room(by)
        self.reading += by

    def left(self, choices: int, *, served: bool) -> None:
        """A request is over: the engine had it, or it came no further than here."""
        if served:
            self._drain.left(choices)
        else:
            self.reading -= choices
        self.left_unserved()

    def left_unserved(self) -> None:
        """A request waited in vain. That it is gone says nothing of how fast others go."""
        if not self.waiting:
            self._drain.stands_empty()

    def refuse(self, reason: str) -> dict[str, str]:
        """Count a refusal; returns the header that says when to come again."""
        self.refused[reason] += 1
        return retry_after(self._drain.seconds(self.waiting))

    def _length(self) -> int:
        """Below zero by the slots that are free beyond those who wait."""
        client = self._client
        requests = client.stats.get("requests", {})
        free = 0 if requests.get("waiting") else client.ready.max_num_seqs - requests.get("running", 0)
        return self.reading + client.unstarted_requests - max(0, free)

    def _check_room(self, wanted: int) -> None:
        length = self._length()
        if length + wanted <= self.most:
            return
        headers = self.refuse(QUEUE_FULL)
        more = f", and this one would bring {wanted} more; send it in parts" if wanted > 1 else ""
        message = (
            f"the queue is full: {max(0, length)} of at most {counted(self.most, 'request')} wait "
            f"(--max-num-queued-reqs){more}; try again in {headers[RETRY_AFTER]} s"
        )
        raise ApiError(HTTPStatus.TOO_MANY_REQUESTS, message, code=QUEUE_FULL, headers=headers)


class Place:
    """One HTTP request's place in the line, given back by ``leave`` however the request ends."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._choices = 1
        self._is_submitted = False
        self._is_late = False
        self._is_over = False

    def widen(self, choices: int) -> None:
        """It is known now how many choices the request has.

        Raises:
            ApiError: 429, there is no room for as many.
        """
        self._line.widen(choices - self._choices)
        self._choices = choices

    def submit(self) -> None:
        """The request goes to the engine in this very turn of the event loop, and is counted there from now on."""
        self._is_submitted = True
        self._line.reading -= self._choices

    def time_out(self) -> dict[str, str]:
        """The engine did not come to the request in time; returns the header that says when to come again."""
        self._is_late = True
        return self._line.refuse(QUEUE_TIMEOUT)

    def leave(self) -> None:
        """The request was answered, or not. Harmless when repeated."""
        if self._is_over:
            return
        self._is_over = True
        if self._is_late:
            self._line.left_unserved()
        else:
            self._line.left(self._choices, served=self._is_submitted)


class Drain:
    """How fast requests have left of late, while others waited.

    Args:
        now: a clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since = now()  # nobody waited then, or as many as are remembered have left since
        self._lately: deque[tuple[float, int]] = deque(maxlen=_LATELY)

    def stands_empty(self) -> None:
        """Nobody waits: what comes later says more than what was before."""
        self._lately.clear()
        self._since = self._now()

    def left(self, choices: int) -> None:
        """A request of so many choices is over."""
        if len(self._lately) == _LATELY:
            self._since = self._lately[0][0]
        self._lately.append((self._now(), choices))

    def seconds(self, waiting: int) -> int:
        """Whole seconds until so many will have left, at least 1 and at most a minute.

        While none has left yet, as long as they have been waiting.
        """
        passed = self._now() - self._since
        gone = sum(choices for _, choices in self._lately)
        return min(_LONGEST_BREAK, max(1, ceil(passed * waiting / gone if gone else passed)))
