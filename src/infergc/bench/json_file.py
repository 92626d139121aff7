"""The file that figures are written to: looked at before minutes of measuring, not after."""

import json
import os
from pathlib import Path
from typing import Any


def check_writable(file: Path) -> None:
    """See that a file can be written, and leave everything as it is.

    Raises:
        OSError: it cannot.
    """
    is_new = not os.path.lexists(file)
    with file.open("ab"):
        pass
    if is_new:
        file.unlink()


def cannot_write(file: Path, error: OSError) -> str:
    """What to say then, after the name of the flag."""
    return f"cannot write {file}: {error.strerror}"


def write_json(file: Path, figures: dict[str, Any]) -> None:
    """Write figures for machines that people can read too."""
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
