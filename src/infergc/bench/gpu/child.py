"""The side of a section's process: it runs the section and tells what comes of it, a line of JSON for each news."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from typing import Any, cast

from infergc.bench.gpu.figure import REST, Figure, not_run
from infergc.bench.gpu.section import Section, Setting

Tell = Callable[[dict[str, Any]], None]


def teller() -> Tell:
    """What writes news to the standard output; whatever else the process prints goes to standard error from now on."""
    sys.stdout.flush()
    file = os.dup(1)
    os.dup2(2, 1)

    def tell(news: dict[str, Any]) -> None:
        os.write(file, (json.dumps(news) + "\n").encode())

    return tell


def run(home: str, setting: Setting, tell: Tell) -> None:
    """Run a section and tell its figures.

    Args:
        home: of the section, ``module:function``.
        setting: of the run.
        tell: is given ``{"figure": …}`` for each.
    """
    for figure in _figures(home, setting):
        tell({"figure": asdict(figure)})


def _figures(home: str, setting: Setting) -> Iterator[Figure]:
    module, _, name = home.partition(":")
    try:
        section = cast(Section, getattr(import_module(module), name))
        yield from section(setting)
    except ModuleNotFoundError as error:
        yield not_run("all" if error.name is None else f"what needs {error.name}", error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other sections go on
        traceback.print_exc()
        yield not_run(REST, error)
