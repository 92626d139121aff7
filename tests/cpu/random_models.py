"""Models of random weights, by the tool that writes them."""

import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "make_random_model.py"


def make_random_model(out: Path, sizes: str = "") -> None:
    """What the tool does with these flags, in this process: another would import transformers for seconds.

    Raises:
        SystemExit: it refused its arguments.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [TOOL.name, str(out), *sizes.split()])
        runpy.run_path(str(TOOL), run_name="__main__")
