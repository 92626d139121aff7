"""What a request asks of the prefix cache: how much its prompt is worth, for how long, and whether to pin it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from infergc.params import ParameterError, check_text
from infergc.wording import shown

FIELD = "cache_control"
ORDINARY = 35  # the priority of what nobody spoke of, as in TensorRT-LLM
MAX_PRIORITY = 100
DEFAULT_TTL = 300  # seconds, as in Anthropic's API
MAX_TTL = 30 * 86400  # seconds
_TIME = re.compile(r"([0-9]{1,7})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIMES = '"5m", "1h", or seconds'


@dataclass(frozen=True, slots=True)
class CacheControl:
    """How the pages of a request's prompt are to be kept; see docs/cache-control.md.

    Attributes:
        ttl: seconds without use until its pages go first, and until its pin ends; also such as "5m" or "1h". Where None
            is given it is 300; with a priority and no pin None means that no time passes.
        priority: 0 to 100; pages of a lower one go before those of a higher. 35, which None means, is that of all
            pages of which nothing was said.
        pin: keep the pages whatever comes, within the pin budget, until ``ttl`` is over.

    Raises:
        ParameterError: a value is not allowed; it names ``cache_control.<field>``.
    """

    ttl: int | None = None
    priority: int | None = None
    pin: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.pin, bool):
            raise ParameterError(f"{FIELD}.pin", f"takes true or false, not {shown(self.pin)}")
        _check_priority(self.priority)
        is_timed = self.pin or self.priority is None
        ttl = DEFAULT_TTL if self.ttl is None and is_timed else self.ttl
        object.__setattr__(self, "ttl", None if ttl is None else _seconds(ttl))
        object.__setattr__(self, "priority", self.level)

    @property
    def level(self) -> int:
        """The priority as a number."""
        return ORDINARY if self.priority is None else self.priority


def as_cache_control(given: object) -> CacheControl | None:
    """Read what a user gave: a CacheControl, an object with its fields and ``type``, or None.

    Raises:
        ParameterError: it is none of these; or as ``CacheControl``.
    """
    if given is None or isinstance(given, CacheControl):
        return given
    if not isinstance(given, Mapping):
        raise ParameterError(FIELD, f"takes an object, not {shown(given)}")
    known = [one.name for one in fields(CacheControl)]
    for name in given:
        if name not in (*known, "type"):
            raise ParameterError(FIELD, f"has no field {shown(name)}; there are type, {', '.join(known)}")
    if given.get("type", "ephemeral") != "ephemeral":
        raise ParameterError(f"{FIELD}.type", f'{shown(given["type"])} is not allowed; it must be "ephemeral"')
    return CacheControl(given.get("ttl"), given.get("priority"), given.get("pin", False))


def _check_priority(priority: object) -> None:
    if priority is None:
        return
    if type(priority) is not int:
        raise ParameterError(f"{FIELD}.priority", f"takes an integer, not {shown(priority)}")
    if not 0 <= priority <= MAX_PRIORITY:
        message = f"{shown(priority)} is not allowed; it must be ≥ 0 and ≤ {MAX_PRIORITY}"
        raise ParameterError(f"{FIELD}.priority", message)


def _seconds(ttl: object) -> int:
    name, seconds = f"{FIELD}.ttl", ttl
    if isinstance(ttl, str):
        check_text(name, ttl)
        match = _TIME.fullmatch(ttl)
        seconds = int(match[1]) * _SECONDS[match[2]] if match else None
    if type(seconds) is not int:
        raise ParameterError(name, f"takes {_TIMES}, not {shown(ttl)}")
    if not 1 <= seconds <= MAX_TTL:
        raise ParameterError(name, f"{shown(ttl)} is not allowed; it must be ≥ 1 second and ≤ 30 days")
    return seconds
