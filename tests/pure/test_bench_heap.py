"""``infergc bench heap``: what is measured is what it says, and the pool is left as it was."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from infergc.bench import heap as heap_bench
from infergc.bench.heap import LEAST_PAGES, OPERATIONS, PAGE_TOKENS, FreeList, HeapBench, most_tokens
from infergc.cli.bench.group import bench


def _heap(*flags: str) -> tuple[int, str]:
    result = CliRunner().invoke(bench, ["heap", *flags])
    return result.exit_code, result.output


def test_every_length_in_every_pool_has_a_row(tmp_path: Path) -> None:
    file = tmp_path / "heap.json"
    code, output = _heap("--pages", "512,256", "--tokens", "64,512", "--rounds", "2", "--json", str(file))
    assert code == 0, output
    rows = json.loads(file.read_text())["rows"]
    assert [(row["pages"], row["tokens"]) for row in rows] == [(256, 64), (256, 512), (512, 64), (512, 512)]
    for row in rows:
        assert tuple(row["heap"]) == OPERATIONS
        assert set(row["free_list"]) == {"allocate", "extend", "free"}
        assert min(*row["heap"].values(), *row["free_list"].values()) > 0
    lines = output.splitlines()
    assert len(lines) == 2 + len(rows)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--pages", "256", "--tokens", "513"), "--tokens 513: at most 512 with --pages 256"),
        (("--tokens", "15,64"), "--tokens 15: at least 16, one page"),
        (("--pages", "many"), "'--pages': 'many' is not a list of whole numbers from 1 up"),
        (("--tokens", "64,0"), "'--tokens': '64,0' is not a list"),
        (("--rounds", "0"), "'--rounds'"),
        (("--pages", "255,1000", "--tokens", "16"), "--pages 255: at least 256 and at most 10000000"),
        (("--pages", "1"), "--pages 1: at least 256"),
        (("--pages", "1000,999999999999"), "--pages 999999999999: at least 256 and at most 10000000"),
        (("--json", "/nowhere/x.json"), "Error: --json: cannot write /nowhere/x.json: No such file or directory"),
    ],
)
def test_a_bad_size_names_its_flag(flags: tuple[str, ...], message: str) -> None:
    code, output = _heap(*flags)
    assert code == 2
    assert message in output


@pytest.mark.parametrize("tokens", [PAGE_TOKENS, 17, 100, most_tokens(1024)])
def test_a_round_leaves_the_pool_as_it_was(tokens: int) -> None:
    bench = HeapBench(1024, seed=3)
    before = bench.heap.groups[0].space.free_pages()
    assert 0.2 * 1024 < len(before) < 0.8 * 1024
    for _ in range(2):
        bench.measure(tokens)
        bench.heap.check()
    assert bench.heap.groups[0].space.free_pages() == before


def test_every_page_that_evict_takes_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a large pool as well, where the reclaimer keeps far more pages free than the round has cached."""
    bench, timed, evicted = HeapBench(1 << 14, seed=0), heap_bench._each, [0.0]

    def counted(tokens: int, work: Callable[[], object]) -> float:
        before = bench.heap.counters.evicted
        spent = timed(tokens, work)
        evicted.append((bench.heap.counters.evicted - before) * PAGE_TOKENS / tokens)
        return spent

    monkeypatch.setattr(heap_bench, "_each", counted)
    bench.measure(PAGE_TOKENS)
    assert evicted[-1] >= 1
    assert max(evicted[:-1]) == 0, "nothing else evicts"


def test_free_pages_of_an_aged_pool_lie_in_pieces() -> None:
    free = np.array(HeapBench(4096, seed=0).heap.groups[0].space.free_pages())
    pieces = 1 + np.count_nonzero(np.diff(free) != 1)
    assert pieces > len(free) / (64 * 1024 / PAGE_TOKENS)


def test_the_free_list_gives_each_page_once() -> None:
    pages = FreeList(np.arange(10, dtype=np.int32))
    one, two = pages.take(4), pages.take(6)
    assert sorted([*one.tolist(), *two.tolist()]) == list(range(10))
    pages.give(one)
    assert sorted(pages.take(4).tolist()) == sorted(one.tolist())


def test_the_smallest_pool_can_be_measured() -> None:
    code, output = _heap("--pages", str(LEAST_PAGES), "--tokens", f"{PAGE_TOKENS},{most_tokens(LEAST_PAGES)}")
    assert code == 0, output
