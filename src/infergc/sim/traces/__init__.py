"""Recorded traces: their formats, and what is refused. One reader a file; ``read`` finds the format."""

from infergc.sim.traces.errors import BadRow, OptionError, TraceError
from infergc.sim.traces.read import TraceOptions, read_good_rows, read_trace

__all__ = ["BadRow", "OptionError", "TraceError", "TraceOptions", "read_good_rows", "read_trace"]
