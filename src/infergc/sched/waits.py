"""Why requests wait: the words for it."""

from typing import Final

SLOTS: Final = "slots"  # as many sequences run as may
TOKENS: Final = "tokens"  # the step computes as many tokens as it may
MEMORY: Final = "memory"  # the first in line does not fit, or those that run were short themselves
LOAD: Final = "load"  # KV of the first in line is on its way from a lower tier
ORDER: Final = "order"  # another is first, and waits for memory or to be loaded
STEP: Final = "step"  # it came after the last plan was made
REASONS = (SLOTS, TOKENS, MEMORY, LOAD, ORDER, STEP)
BEHIND = frozenset({MEMORY, LOAD})  # reasons of the first in line alone; the others wait behind it
