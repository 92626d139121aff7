"""Small traces in the formats of the recorded ones, for tests of the mission's scenarios."""

import json
from pathlib import Path

BLOCK = 512  # tokens, as in Mooncake's traces
_LONG = (9_000, 10_100, 17_000, 700, 9_400, 30_000, 12_000, 18_200, 40_000, 8_500, 21_000)  # prompt tokens
_AZURE = ((374, 44), (1_040, 120), (60, 8), (2_130, 210), (900, 33), (4_100, 90), (311, 160), (1_500, 12))


def write_traces(directory: Path) -> Path:
    """Two files; returns the directory. Every other long prompt begins as the one before it."""
    rows = []
    for number, length in enumerate(_LONG):
        blocks = -(-length // BLOCK)
        own = [1000 * (number + 1) + at for at in range(blocks)]
        begun = 1000 * number if number % 2 else own[0]
        ids = [begun + at if number % 2 and at < 4 else each for at, each in enumerate(own)]
        rows.append(
            {"timestamp": 700 * number, "input_length": length, "output_length": 30 + 7 * number, "hash_ids": ids}
        )
    (directory / "mooncake_conversation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    lines += [f"2023-11-16 18:17:{second:02}.0,{given},{generated}" for second, (given, generated) in enumerate(_AZURE)]
    (directory / "azure_conv.csv").write_text("\n".join(lines) + "\n")
    return directory
