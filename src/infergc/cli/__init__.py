"""The command line: ``infergc serve``, ``infergc generate`` and ``infergc bench``."""

from infergc.cli.main import main

__all__ = ["main"]
