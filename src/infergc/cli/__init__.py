"""The command line: ``infergc serve``, ``generate``, ``chat``, ``plan``, ``heap`` and ``bench``."""

from infergc.cli.main import main

__all__ = ["main"]
