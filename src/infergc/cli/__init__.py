"""The command line: ``infergc serve``, ``generate``, ``chat``, ``plan``, ``heap``, ``bench`` and ``eval``."""

from infergc.cli.main import main

__all__ = ["main"]
