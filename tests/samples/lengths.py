"""How much of a demand a run of the suite repeats: a covering part, or, with ``--long``, all of it.

``--long`` is asked here and nowhere else. `conftest.py` loads one of hypothesis' two profiles before it imports any
test, so that tests may also ask while their parameters are collected.
"""

from typing import TypeVar

from hypothesis import settings

LONG, SHORT = "long", "short"

T = TypeVar("T")


def at_length(short: T, whole: T) -> T:
    """Return ``short``, or ``whole`` where the suite runs with ``--long``: a count, or a list of parameters."""
    return whole if settings.get_current_profile_name() == LONG else short
