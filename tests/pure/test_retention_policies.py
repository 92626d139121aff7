"""Known policies by hand-made sequences, in trees of prompts that go on, and within their bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infergc.config import ConfigError, engine_config
from infergc.engine.assembly import FORESEEING, RETENTIONS
from infergc.heap.nodes import Namespace
from infergc.heap.retention import Retention
from infergc.policies.retention.arc import Arc
from infergc.policies.retention.belady import Belady
from infergc.policies.retention.lfu import Lfu
from infergc.policies.retention.listed import Listed
from infergc.policies.retention.lru import Lru
from infergc.policies.retention.s3_fifo import S3Fifo
from infergc.policies.retention.slru import Slru
from infergc.policies.retention.tinylfu import Knobs as TinyLfuKnobs
from infergc.policies.retention.tinylfu import TinyLfu
from samples.block_traces import BlockCache, Blocks, conversations, hits, tokens_of

LISTED: tuple[type[Listed], ...] = (Slru, Arc, S3Fifo, TinyLfu)
SCAN = range(1000, 1100)  # blocks that come once


def ask_all(cache: BlockCache, blocks: Blocks) -> None:
    for block in blocks:
        cache.ask([block])


def foreseeing(prompts: list[list[int]]) -> Belady:
    return Belady(("", tokens_of(prompt)) for prompt in prompts)


# ---- each policy's own idea


def test_lfu_remembers_counts_of_what_went() -> None:
    cache = BlockCache(Lfu(), 4)
    ask_all(cache, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4])
    ask_all(cache, [5, 6, 5, 5])  # 5 goes for 6 and comes back: three uses, counted over both stays
    assert cache.held(range(1, 7)) == [2, 3, 4, 5]
    ask_all(cache, [6])
    assert cache.held(range(1, 7)) == [3, 4, 5, 6], "of equal counts the one unused for longest"


def test_slru_protects_what_came_again_from_a_scan() -> None:
    cache = BlockCache(Slru(), 8)
    ask_all(cache, [1, 1, 2, 2, 3, 3, 4, 4, *SCAN])
    assert cache.held(range(1, 5)) == [1, 2, 3, 4]


def test_slru_protects_no_more_than_its_share() -> None:
    cache = BlockCache(Slru(protected=0.25), 8)
    ask_all(cache, [1, 1, 2, 2, 3, 3, 4, 4, *SCAN])
    assert cache.held(range(1, 5)) == [3, 4]


def test_slru_lets_what_was_protected_stay_as_long_as_if_just_used() -> None:
    cache = BlockCache(Slru(), 4)
    ask_all(cache, [1, 1, 2, 2, 10, 11, 3])  # two are protected
    assert cache.held([1, 2, 3, 10, 11]) == [1, 2, 3, 11]
    ask_all(cache, [3])  # a third: 1 is on probation, and newer there than 11
    ask_all(cache, [12])
    assert cache.held([1, 2, 3, 11, 12]) == [1, 2, 3, 12]
    ask_all(cache, [13])
    assert cache.held([1, 2, 3, 12, 13]) == [2, 3, 12, 13]


def test_arc_keeps_what_came_again_through_a_scan() -> None:
    often = [1, 2, 3, 4, 5, 6]
    cache, plain = BlockCache(Arc(), 8), BlockCache(Lru(), 8)
    for each in (cache, plain):
        ask_all(each, [*often, *often, *SCAN])
    assert cache.held(often) == often
    assert plain.held(often) == []


def test_arc_learns_from_ghosts_to_keep_what_is_new() -> None:
    arc = Arc()
    cache = BlockCache(arc, 8)
    ask_all(cache, [1, 2, 3, 4, 1, 2, 3, 4, *range(10, 18)])
    assert arc.target == 0
    ask_all(cache, [10, 11])  # both left T1 not long ago
    assert arc.target == 2
    ask_all(cache, [5, 6, 7, 1])  # 1 left T2 since: it should have been longer
    assert cache.held([1]) == [1]
    assert arc.target == 0


def test_s3_fifo_lets_go_of_one_hit_wonders_first_and_spares_what_was_used_twice() -> None:
    cache = BlockCache(S3Fifo(), 20)
    ask_all(cache, [*range(20), *[3, 3, 4, 4, 5]])  # 3 and 4 were used twice, 5 once
    ask_all(cache, SCAN)
    assert cache.held(range(20)) == [3, 4]


def test_s3_fifo_takes_back_to_the_main_queue_what_its_ghosts_knew() -> None:
    cache = BlockCache(S3Fifo(), 20)
    ask_all(cache, range(25))
    assert not cache.held([4])
    ask_all(cache, [4, *SCAN])
    assert cache.held([4]) == [4]


def test_s3_fifo_lets_uses_in_the_main_queue_wear_off() -> None:
    cache = BlockCache(S3Fifo(), 10)
    ask_all(cache, range(12))
    ask_all(cache, [0, 1, 0, 1, 0])  # come to the main queue by their ghosts
    for first in range(100, 300, 10):
        ask_all(cache, [block for block in range(first, first + 10) for _ in range(3)])
    assert not cache.held([0, 1])


def test_tinylfu_keeps_what_is_asked_for_often_through_a_scan() -> None:
    often = [1, 2, 3, 4, 5, 6]
    cache = BlockCache(TinyLfu(TinyLfuKnobs(sample=1000)), 8)
    ask_all(cache, [*(often * 3), *SCAN])
    assert len(cache.held(often)) >= 5  # of small sketches a counter may be shared


def test_tinylfu_forgets_in_time_what_was_asked_for_often() -> None:
    old, new = [1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]
    aging, never = (BlockCache(TinyLfu(TinyLfuKnobs(sample=sample)), 8) for sample in (6, 1e6))
    for cache in (aging, never):
        ask_all(cache, [*(old * 12), *(new * 5)])
    assert len(aging.held(new)) > len(never.held(new))


# ---- trees


@given(st.integers(0, 2**32 - 1), st.integers(12, 32))
@settings(max_examples=15, deadline=None)
def test_belady_is_never_worse_than_another(seed: int, pages: int) -> None:
    prompts = conversations(seed, 60)
    best = sum(hits(foreseeing(prompts), prompts, pages))
    for policy in RETENTIONS.values():
        assert sum(hits(policy(), prompts, pages)) <= best


def test_belady_knows_tenants_apart_and_passes_over_prompts_that_never_came() -> None:
    coming = [("a", [1, 2]), ("b", [3, 4]), ("b", [9]), ("a", [1, 2]), ("b", [5]), ("b", [3, 4])]
    cache = BlockCache(Belady((salt, tokens_of(blocks)) for salt, blocks in coming), 4)
    found = [cache.ask(blocks, salt) for salt, blocks in coming if blocks != [9]]
    assert found == [0, 0, 2, 0, 2]
    with pytest.raises(ValueError, match="not foreseen"):
        cache.ask([7])


def test_belady_lets_text_go_first_that_no_prompt_will_have() -> None:
    prompts = [[1], [2], [3], [1]]
    cache = BlockCache(foreseeing(prompts), 3)
    cache.ask([1], written=[50])
    ask_all(cache, [2, 3])
    assert cache.ask([1]) == 1


@pytest.mark.parametrize("policy", LISTED)
def test_the_lists_hold_what_the_tree_holds(policy: type[Listed]) -> None:
    retention = policy()
    cache = BlockCache(retention, 32)
    for number, prompt in enumerate(conversations(7, 150)):
        cache.ask(prompt, "ab"[number % 2], written=[5000 + number] * (number % 3))
        listed = [mark for pages in retention.lists for mark in pages]
        assert len(listed) == len(set(listed))
        assert set(listed) == cache.marks()
    cache.heap.check()
    assert cache.heap.counters.evicted > 100


@pytest.mark.parametrize("policy", LISTED)
def test_what_is_remembered_is_bounded_whatever_comes_to_nothing(policy: type[Listed]) -> None:
    """Requests may ask, and go before a page is computed."""
    retention, pages = policy(), 50
    retention.begin(pages, 8)
    for first in range(0, 6000, 30):
        retention.asked(Namespace("m"), tokens_of(range(first, first + 30)))
        assert sum(map(len, retention.lists)) <= 2 * pages
        assert sum(len(held) for held in _remembered(retention)) <= 4 * pages


def _remembered(retention: Listed) -> list[dict[int, int]]:
    found = [value for value in vars(retention).values() if isinstance(value, dict)]
    found += [each for value in vars(retention).values() if isinstance(value, list) for each in value]
    return found


def test_slru_and_tinylfu_keep_their_shares_in_trees() -> None:
    slru, tinylfu = Slru(), TinyLfu(TinyLfuKnobs(window=0.25, protected=0.5))
    for retention in (slru, tinylfu):
        cache = BlockCache(retention, 32)
        for prompt in conversations(3, 150):
            cache.ask(prompt)
            assert len(retention.lists[-1]) <= (16 if retention is slru else 12)


@pytest.mark.parametrize("name", RETENTIONS)
def test_the_same_prompts_leave_the_same_pages(name: str) -> None:
    prompts = conversations(11, 120)
    caches = [BlockCache(RETENTIONS[name](), 24) for _ in range(2)]
    for prompt in prompts:
        assert len({cache.ask(prompt) for cache in caches}) == 1
    assert caches[0].marks() == caches[1].marks()


@pytest.mark.parametrize("name", RETENTIONS)
def test_pages_worth_the_same_go_at_once(name: str) -> None:
    """A prompt of many pages is cut by as many as are short, not page by page."""
    retention = RETENTIONS[name]()
    spans: list[int] = []
    reclaimed = retention.reclaimed
    retention.reclaimed = lambda node, pages: (spans.append(pages), reclaimed(node, pages))[1]  # type: ignore[method-assign]
    cache = BlockCache(retention, 32)
    for first in range(0, 160, 16):
        cache.ask(range(first, first + 16))
    assert sum(spans) == 128
    assert len(spans) <= 16


# ---- names


def test_every_policy_can_be_configured_but_the_one_that_needs_the_future() -> None:
    for name, policy in RETENTIONS.items():
        assert engine_config(model=".", retention_policy=name).retention_policy == name
        assert isinstance(policy(), Retention)
    for name in FORESEEING:
        with pytest.raises(ConfigError, match=r"--retention-policy: .*tinylfu"):
            engine_config(model=".", retention_policy=name)
