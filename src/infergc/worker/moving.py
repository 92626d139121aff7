"""Making a step's moves whatever happens: pages of requests that have nothing to do with the step depend on them."""

import logging
from collections import deque
from collections.abc import Callable

from infergc.heap.errors import StorageLost
from infergc.heap.moves import Move
from infergc.worker.storage import leading_run

_LOG = logging.getLogger(__name__)
ATTEMPTS = 3


def make(moves: tuple[Move, ...], apply: Callable[[tuple[Move, ...]], object], page_tokens: int) -> None:
    """Make moves in order. Where that fails half way, go on with the move that failed.

    What was made is not made twice, for a later move may have written over what an earlier one read. One by itself may
    be, as it reads nothing that it writes.

    Args:
        moves: as planned.
        apply: makes some of them.
        page_tokens: P.

    Raises:
        StorageLost: it failed three times.
    """
    pending = deque(moves)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _make_all(pending, apply, page_tokens)
        except Exception as error:
            _LOG.warning("a page could not be moved (%s: %s), attempt %d", type(error).__name__, error, attempt)
            if attempt == ATTEMPTS:
                raise StorageLost(f"{type(error).__name__}: {error}, while {_told(pending[0])}") from error
        else:
            return


def _make_all(pending: deque[Move], apply: Callable[[tuple[Move, ...]], object], page_tokens: int) -> None:
    while pending:
        run = leading_run(pending, 0, page_tokens)
        apply(tuple(pending[at] for at in range(run)))
        for _ in range(run):
            pending.popleft()


def _told(move: Move) -> str:
    return f"{move.pages} pages of group {move.group} were to be moved ({move.kind}) from {move.src} to {move.dst}"
