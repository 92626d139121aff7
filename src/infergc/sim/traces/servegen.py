"""ServeGen JSONL: times, lengths and clients; nothing is known of what prompts share (Xiang et al., ServeGen, 2025)."""

import msgspec
from msgspec import UNSET, UnsetType

from infergc.sim.traces.json_row import JsonRow, decode
from infergc.sim.traces.rows import Reader, Row, RowError, output_tokens


class _ServeGen(JsonRow, kw_only=True):
    hash_ids: msgspec.Raw | UnsetType = UNSET


_DECODER = msgspec.json.Decoder(_ServeGen)


def reader(first: str) -> Reader | None:
    """How to read a file that begins with this line; None if it is of another format."""
    if first.startswith("{") and '"hash_ids"' not in first:
        return Reader(_parse)
    return None


def _parse(line: str) -> Row:
    row = decode(_DECODER, line)
    if row.hash_ids is not UNSET:  # what it says of sharing would be lost in silence
        raise RowError("hash_ids is not allowed; the first row of the file has none")
    return Row(row.micros(), row.input_length, output_tokens(row.output_length), session=row.session_name())
