"""The command line: ``infergc serve`` and ``infergc generate``."""

from infergc.cli.main import main

__all__ = ["main"]
