"""``infergc bench compaction``: free pages lie together when it is done."""

import json
from pathlib import Path

from click.testing import CliRunner

from infergc.cli.bench.group import bench


def test_free_pages_lie_together_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "compaction.json"
    result = CliRunner().invoke(
        bench, ["compaction", "--pages", "3000", "--sparse", "0.5", "--budget", "200", "--json", str(file)]
    )
    assert result.exit_code == 0, result.output
    (row,) = json.loads(file.read_text())["rows"]
    assert row["pages"] == 3000
    assert row["after"] < row["before"]
    assert row["whole_after"] > row["whole_before"]
    assert row["moved"] >= row["steps"] > 0
    assert row["longest"] >= row["median"] > 0 < row["idle"]
    assert "→" in result.output.splitlines()[1]


def test_a_pool_out_of_bounds_is_refused() -> None:
    result = CliRunner().invoke(bench, ["compaction", "--pages", "10"])
    assert result.exit_code == 2
    assert "--pages 10: at least 256 and at most 10000000" in result.output
