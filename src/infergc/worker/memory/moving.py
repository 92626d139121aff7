"""Making a step's moves whatever happens: pages of requests that have nothing to do with the step depend on them."""

import logging
from collections import deque
from collections.abc import Callable

from infergc.heap.errors import StorageLost
from infergc.heap.moves import Move
from infergc.worker.devices.copies import independent

_LOG = logging.getLogger(__name__)
ATTEMPTS = 3


def make(moves: tuple[Move, ...], apply: Callable[[tuple[Move, ...]], object]) -> None:
    """Make moves in order, as many at once as are independent. Where that fails half way, go on with what failed.

    What was made is not made twice, for a later move may have written over what an earlier one read. Moves that are
    made at once may be, as none reads what another one of them writes.

    Args:
        moves: as planned.
        apply: makes some of them.

    Raises:
        StorageLost: it failed three times.
    """
    pending = deque(moves)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _make_all(pending, apply)
        except Exception as error:
            _LOG.warning("a page could not be moved (%s: %s), attempt %d", type(error).__name__, error, attempt)
            if attempt == ATTEMPTS:
                raise StorageLost(f"{type(error).__name__}: {error}, while {_told(pending[0])}") from error
        else:
            return


def _make_all(pending: deque[Move], apply: Callable[[tuple[Move, ...]], object]) -> None:
    while pending:
        count = independent(pending)
        apply(tuple(pending[at] for at in range(count)))
        for _ in range(count):
            pending.popleft()


def _told(move: Move) -> str:
    return f"{move.pages} pages of group {move.group} were to be moved ({move.kind}) from {move.src} to {move.dst}"
