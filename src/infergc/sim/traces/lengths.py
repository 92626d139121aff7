"""Length-only CSV: tokens in and out, no times (Vidur's processed traces: Agrawal et al., MLSys 2024)."""

from infergc.sim.traces.columns import columns
from infergc.sim.traces.rows import Reader, Row, count, output_tokens

COLUMNS = ("num_prefill_tokens", "num_decode_tokens")


def reader(first: str) -> Reader | None:
    """How to read a file that begins with this line; None if it is of another format."""
    take = columns(first, COLUMNS)
    if take is None:
        return None

    def parse(line: str) -> Row:
        given, generated = take(line)
        return Row(0, count(COLUMNS[0], given, 1), output_tokens(count(COLUMNS[1], generated, 0)))

    return Reader(parse, header=True, timed=False)
