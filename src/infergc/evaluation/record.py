"""The record: what was measured, a line of JSON each, so that a run that ended anyhow can be taken up again."""

import fcntl
import hashlib
import json
from pathlib import Path
from typing import Any, Self

FILE = "cells.jsonl"


class RecordError(ValueError):
    """The record cannot be kept there; the message says why."""


class Record:
    """Cells by key. A line counts when it is whole: what a killed run left half written is cut off.

    Args:
        directory: of the record; made if need be. One run at a time has it.

    Raises:
        RecordError: another run has it.
        OSError: it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / FILE).open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise RecordError(f"{directory}: another run is writing there; wait for it, or take another") from None
        self._results = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        self._file.seek(0)
        found: dict[str, dict[str, Any]] = {}
        whole = 0
        for line in self._file.readall().splitlines(keepends=True):
            entry = _entry(line)
            if entry is None:
                break
            whole += len(line)
            found[entry["key"]] = entry["result"]
        self._file.truncate(whole)
        return found

    def get(self, key: str) -> dict[str, Any] | None:
        """What was measured for the key; None if nothing was yet."""
        return self._results.get(key)

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._results[key]

    def put(self, key: str, cell: dict[str, Any], result: dict[str, Any]) -> None:
        """Keep a result, at once and in one write. ``cell`` says what it is of, for whoever reads the file.

        Raises:
            OSError: it cannot be written.
        """
        line = json.dumps({"key": key, "cell": cell, "result": result}, separators=(",", ":")) + "\n"
        self._file.write(line.encode())
        self._results[key] = result

    def close(self) -> None:
        """Let another run have it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def key_of(parts: Any) -> str:
    """A digest of plain data: equal data has equal keys."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _entry(line: bytes) -> dict[str, Any] | None:
    """A line's entry; None if it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"key", "result"} <= entry.keys() else None
