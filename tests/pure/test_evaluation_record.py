"""The record of an evaluation, its intervals, and the rows of log probabilities on disk."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from infergc.evaluation.likelihoods import Likelihoods, check_room
from infergc.evaluation.record import FILE, Record, RecordError, key_of
from infergc.evaluation.reference import model_digest
from infergc.evaluation.statistics import ratio, ratio_interval, share_interval, wilson


def test_what_is_put_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    with Record(tmp_path / "new" / "folder") as record:
        assert record.get("a") is None
        record.put("a", {"kind": "x"}, {"score": 1})
        record.put("a", {"kind": "x"}, {"score": 2})
    with Record(tmp_path / "new" / "folder") as record:
        assert record["a"] == {"score": 2}, "the later one counts"


@pytest.mark.parametrize("torn", [1, 5, 30])
def test_a_line_that_was_half_written_is_cut_off(tmp_path: Path, torn: int) -> None:
    with Record(tmp_path) as record:
        record.put("a", {}, {"score": 1})
        record.put("b", {}, {"score": 2})
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:-torn])
    with Record(tmp_path) as record:
        assert (record.get("a"), record.get("b")) == ({"score": 1}, None)
        record.put("c", {}, {"score": 3})
    lines = [json.loads(line)["key"] for line in file.read_text().splitlines()]
    assert lines == ["a", "c"]


@pytest.mark.parametrize("line", [b"\0\0\0\n", b"[1, 2]\n", b'{"key": 1}\n', b"\xff\n"])
def test_nothing_after_a_broken_line_counts(tmp_path: Path, line: bytes) -> None:
    with Record(tmp_path) as record:
        record.put("a", {}, {"score": 1})
    with (tmp_path / FILE).open("ab") as file:
        file.write(line)
    with Record(tmp_path) as record:
        record.put("b", {}, {"score": 2})
    with Record(tmp_path) as record:
        assert record.get("a")
        assert record.get("b")


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with Record(tmp_path), pytest.raises(RecordError, match="another run is writing there"):
        Record(tmp_path)
    Record(tmp_path).close()


def test_keys_are_of_what_is_in_them() -> None:
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})


def test_a_model_is_named_by_what_its_files_hold(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = model_digest(tmp_path)
    (tmp_path / "README.md").write_text("no part of it")
    assert model_digest(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert model_digest(tmp_path) != before


# ---- rows


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    file = tmp_path / "rows.f32"
    file.write_bytes(b"of a run that was killed before it recorded them")
    before = file.read_bytes()
    with Likelihoods(file, 50, writes=True) as likelihoods:
        for index in (2, 0, 1):
            likelihoods.write(index, rows[index])
        assert file.read_bytes() == before, "until it is whole it has another name"
        likelihoods.finish()
    assert file.stat().st_size == rows.nbytes
    with Likelihoods(file, 50, writes=False) as likelihoods:
        assert all((likelihoods.read(index) == rows[index]).all() for index in range(3))


def test_a_disk_without_room_is_refused_before_it_is_filled(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(OSError, match=r"--out: .* take 1\d+ bytes .* fewer --seeds"):
        check_room(tmp_path, 10**18)


# ---- intervals


def test_wilson_is_as_published() -> None:
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I, method 3


def test_the_bootstrap_of_a_mean_has_the_width_of_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = ratio_interval(values, [1] * 400)
    error = values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.2 * error)


def test_intervals_cover_what_they_should() -> None:
    draw = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        low, high = ratio_interval(draw.exponential(1, 40), [1] * 40)
        covered += low <= 1 <= high
    assert 0.85 <= covered / 200 <= 0.99


def test_seeds_weigh_by_what_they_have() -> None:
    assert ratio([10, 1], [10, 2]) == pytest.approx(11 / 12)
    assert ratio_interval([10, 1], [10, 2]) == pytest.approx((0.5, 1))
    assert ratio_interval([1, 2, 3], [1, 1, 1]) == ratio_interval([1, 2, 3], [1, 1, 1]), "the same every time"


def test_what_few_seeds_do_not_tell_is_not_told() -> None:
    assert ratio_interval([3], [1]) is None
    assert share_interval([0.5]) is None
    assert share_interval([1.0]) == wilson(1, 1)
    assert share_interval([1.0] * 5) == wilson(5, 5)
    assert share_interval([0.0] * 5) == wilson(0, 5)
    assert share_interval([0.5] * 5) == (0.5, 0.5)
    low, high = share_interval([0.0, 1.0, 1.0, 1.0, 0.0])
    assert 0 <= low < 0.6 < high <= 1
