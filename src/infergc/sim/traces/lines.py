"""The lines of a file, plain or gzip, within bounds."""

import gzip
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from io import BufferedIOBase, BufferedReader
from pathlib import Path

from infergc.sim.traces.errors import TraceError
from infergc.units import GIB, MIB

MOST_LINE_BYTES = 16 * MIB
MOST_BYTES = 4 * GIB  # uncompressed; also why ids counted from 0 stay below 2**30: so many do not fit
_GZIP = b"\x1f\x8b"


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, without white space around them, with their numbers from 1.

    Whether the file is compressed is told by its first bytes, not by its name. A byte order mark is left out.

    Raises:
        TraceError: the file cannot be read, is damaged, or is longer than the bounds allow.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_bounded(path, _plain(file)), 1):
                if text := (line.removeprefix(BOM_UTF8) if number == 1 else line).strip():
                    yield number, text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(path, f"the gzip data is damaged after line {number}: {error}") from error
    except OSError as error:
        raise TraceError(path, f"it cannot be read: {error.strerror or error}") from error


def _plain(file: BufferedReader) -> BufferedIOBase:
    return gzip.GzipFile(fileobj=file) if file.peek(len(_GZIP)).startswith(_GZIP) else file


def _bounded(path: Path, file: BufferedIOBase) -> Iterator[bytes]:
    number = total = 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number, total = number + 1, total + len(line)
        if len(line) > MOST_LINE_BYTES:
            raise TraceError(path, f"line {number} is longer than {MOST_LINE_BYTES} bytes, which is the most allowed")
        if total > MOST_BYTES:
            raise TraceError(path, f"it is longer than {MOST_BYTES} bytes (uncompressed), which is the most allowed")
        yield line
