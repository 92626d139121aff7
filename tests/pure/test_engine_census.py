"""What is told of tensors: a warning once for each kind, figures for metrics, labels in bounded number."""

import logging

import pytest

from infergc.engine.census import MOST_NAMED, TensorCensus, TensorGroup, TensorNews, largest

LEAK = TensorGroup("float32", "8x64", "cpu", tensors=9, bytes=18432, age=40, held_by="list of 9 in Cache.kept")


def test_a_leak_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    news = TensorNews()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            news.take(TensorCensus(9, 18432, suspects=(LEAK,)))
    (record,) = caplog.records
    what, holder = record.getMessage().split("; ")
    assert what == "tensor leak: 9 tensors float32 8x64 on cpu, 18,432 bytes, the eldest for 40 steps"
    assert holder == "held by list of 9 in Cache.kept"
    assert news.figures["suspects"][0]["bytes"] == 18432
    news.take(TensorCensus())
    assert news.figures["suspects"] == []


def test_what_cycles_held_adds_up_under_a_bounded_number_of_names(caplog: pytest.LogCaptureFixture) -> None:
    news = TensorNews()
    for width in range(3 * MOST_NAMED):
        group = TensorGroup("float32", str(width), "cpu", tensors=1, bytes=4 * width)
        news.take(TensorCensus(cycles=(group,)))
        news.take(TensorCensus(cycles=(group,)))
    kinds = news.figures["cycles"]
    assert len(kinds) == MOST_NAMED + 1
    assert kinds[5] == {"dtype": "float32", "shape": "5", "device": "cpu", "tensors": 2, "bytes": 40}
    assert kinds[-1]["shape"] == "other"
    assert sum(kind["tensors"] for kind in kinds) == 6 * MOST_NAMED
    assert len(caplog.records) == 2 * MOST_NAMED


def test_the_largest_are_named() -> None:
    groups = [TensorGroup("float32", str(n), "cpu", tensors=1, bytes=n) for n in range(100)]
    assert [group.bytes for group in largest(groups)] == list(range(99, 99 - MOST_NAMED, -1))
