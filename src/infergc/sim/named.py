"""A load by its name: the file of a recorded trace, or a made-up workload such as ``chat:requests=500``."""

from pathlib import Path

from infergc.sim.requests import TraceRequest
from infergc.sim.traces import BadRow, OptionError, TraceOptions, read_good_rows, read_trace
from infergc.sim.workloads import KINDS, WorkloadError, workload
from infergc.wording import shown

_AS_RECORDED = TraceOptions()


def requests_named(
    name: str, options: TraceOptions = _AS_RECORDED, *, skip_bad_rows: bool = False
) -> tuple[list[TraceRequest], list[BadRow]]:
    """Its requests, and the rows that were left out. A file goes before a workload of the same name.

    Args:
        name: of a file or a workload.
        options: what a file does not say of itself.
        skip_bad_rows: leave out rows of a file that cannot be used.

    Raises:
        TraceError: the file cannot be used.
        WorkloadError: there is no such file, nor such a workload; or a knob is wrong.
        OptionError: an option is given that the file or the workload has no use for.
    """
    if name and Path(name).exists():
        return read_good_rows(name, options) if skip_bad_rows else (read_trace(name, options), [])
    if name.partition(":")[0] not in KINDS:
        raise WorkloadError(
            f"there is no file {name or shown(name)}, nor such a workload; there are {', '.join(KINDS)}"
        )
    for option, given in (("rate", options.rate), ("block_tokens", options.block_tokens)):
        if given is not None:
            own = "its own is a knob, such as chat:rate=2" if option == "rate" else "blocks are made with it"
            raise OptionError(f"{option}: is for recorded traces; {name} is made up, and {own}")
    return workload(name), []
