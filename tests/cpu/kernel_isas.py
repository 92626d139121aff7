"""Instruction sets as test parameters: those that cannot run here are skipped, and say so."""

import pytest

from infergc.kernels.cpu.library import LibraryMissingError, variants


def _parameters() -> list[object]:
    try:
        known = variants()
    except LibraryMissingError as error:
        return [pytest.param("none", marks=pytest.mark.skip(reason=str(error)))]
    return [
        pytest.param(name, marks=() if runs else pytest.mark.skip(reason=f"this machine does not run {name}"))
        for name, runs in known.items()
    ]


ISAS = _parameters()
