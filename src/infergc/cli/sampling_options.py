"""Options of every command that generates: how tokens are drawn."""

from collections.abc import Callable
from typing import Any, TypeVar

from infergc.cli.grouped import option

_OPTIONS: dict[str, tuple[Any, str]] = {  # field of SamplingParams → default, help
    "temperature": (1.0, "0 takes the likeliest token each time."),
    "top_k": (0, "Sample among this many likeliest tokens; 0 means all."),
    "top_p": (1.0, "Sample among the likeliest tokens that together reach this."),
    "min_p": (0.0, "Drop tokens less likely than this share of the likeliest."),
    "repetition_penalty": (1.0, "Over 1: tokens that were seen become less likely."),
}
SAMPLING = tuple(_OPTIONS)  # the keyword arguments that they arrive as

_Function = TypeVar("_Function", bound=Callable[..., Any])


def sampling_options(heading: str) -> Callable[[_Function], _Function]:
    """Decorate a command with them."""

    def decorate(function: _Function) -> _Function:
        for name, (default, text) in reversed(_OPTIONS.items()):
            function = option(heading, f"--{name.replace('_', '-')}", name, default=default, help=text)(function)
        return function

    return decorate
