"""hash_ids JSONL: times, lengths, and what prompts consist of (Mooncake's traces: Qin et al., FAST 2025)."""

import msgspec

from infergc.sim.traces.json_row import JsonRow, Name, decode
from infergc.sim.traces.rows import Reader, Row, output_tokens


class _HashIds(JsonRow, kw_only=True):
    hash_ids: list[int | Name]


_DECODER = msgspec.json.Decoder(_HashIds)


def reader(first: str) -> Reader | None:
    """How to read a file that begins with this line; None if it is of another format."""
    if first.startswith("{") and '"hash_ids"' in first:
        return Reader(_parse, blocks=True)
    return None


def _parse(line: str) -> Row:
    row = decode(_DECODER, line)
    return Row(row.micros(), row.input_length, output_tokens(row.output_length), row.hash_ids, row.session_name())
