"""What a running server tells of its heap, and that it adds up."""

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import Any

from samples.servers import Server

ADMIN_KEY = "adm1n"
HEADERS = {"authorization": f"Bearer {ADMIN_KEY}"}
_SCRAPES = 20  # that see the load
STATES = ("free", "live", "cached", "in_transit")

Pages = dict[str, dict[str, dict[str, float]]]  # group → state → generation → pages


def dump_of(server: Server) -> dict[str, Any]:
    """GET /v1/kv/heap."""
    return server.http.get("/v1/kv/heap", headers=HEADERS).json()


def pages_of(metrics: dict[str, float]) -> Pages:
    """The pages of a scrape by generation."""
    found: Pages = {}
    for name, value in metrics.items():
        if name.startswith("infergc_kv_pages_by_generation{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            states = found.setdefault(labels["group"], {state: {} for state in STATES})
            states[labels["state"]][labels["generation"]] = value
    return found


def in_state(metrics: dict[str, float], state: str, group: str = "full", tier: str = "device") -> float:
    """Pages of a group in this state, by a scrape."""
    return metrics[f'infergc_kv_pages{{group="{group}",state="{state}",tier="{tier}"}}']


def tiers_of(metrics: dict[str, float]) -> set[str]:
    """The tiers whose pages a scrape tells."""
    return {tier for name in metrics for tier in re.findall(r'^infergc_kv_pages_capacity.*tier="(\w+)"', name)}


def check_scrape(metrics: dict[str, float]) -> None:
    """The figures of one scrape add up."""
    groups = pages_of(metrics)
    assert groups
    for group, states in groups.items():
        for state in STATES:
            assert sum(states[state].values()) == in_state(metrics, state, group)
        for tier in tiers_of(metrics):
            capacity = metrics[f'infergc_kv_pages_capacity{{group="{group}",tier="{tier}"}}']
            assert sum(in_state(metrics, state, group, tier) for state in STATES) == capacity
    check_bytes(metrics)
    evicted = [value for name, value in metrics.items() if name.startswith("infergc_kv_evicted_pages_total{")]
    stays = [value for name, value in metrics.items() if name.startswith("infergc_kv_residency_steps_count{")]
    assert sum(evicted) == sum(stays) == metrics["infergc_evicted_pages_total"], (evicted, stays)


def check_bytes(metrics: dict[str, float]) -> None:
    """Law 1 in bytes of each tier: the states sum to the capacity, and pages times their size are the bytes."""
    groups = pages_of(metrics)
    for tier in tiers_of(metrics):
        held = {state: metrics[f'infergc_kv_bytes{{state="{state}",tier="{tier}"}}'] for state in STATES}
        assert sum(held.values()) == metrics[f'infergc_kv_capacity_bytes{{tier="{tier}"}}']
        for state, size in held.items():
            pages = ((in_state(metrics, state, group, tier), group) for group in groups)
            assert sum(count * metrics[f'infergc_kv_page_bytes{{group="{group}"}}'] for count, group in pages) == size
    ways = sum(value for name, value in metrics.items() if name.startswith("infergc_preemptions_by_way_total{"))
    assert ways == metrics["infergc_preemptions_total"]


def check_dump(found: dict[str, Any]) -> None:
    """Every page of a dump stands in one place, and none is lost."""
    for group in found["groups"]:
        name = group["name"]
        assert sum(sum(pages.values()) for pages in group["pages"].values()) == group["capacity"]
        if group["tier"] == "host":
            check_claims(found["tiers"], group)
            continue
        assert not any(found["unowned"][name].values())
        live, moving = Counter[str](), Counter[str]()
        for one in found["objects"]:
            live.update(one["groups"].get(name, {}).get("charged", {}))
        for flight in found["in_flight"]:
            moving.update(flight["groups"][name]["charged"])
        assert +live == +Counter(group["pages"]["live"])
        assert +moving == +Counter(group["pages"]["in_transit"])


def check_claims(tiers: dict[str, Any], group: dict[str, Any]) -> None:
    """What is kept on the host is kept for somebody, and each page is charged once."""
    assert tiers["unclaimed"] == 0
    kept = sum(group["pages"]["live"].values()) + sum(group["pages"]["in_transit"].values())
    assert sum(claim["charged"] for claim in tiers["claims"]) == kept
    assert all(claim["charged"] <= claim["held"] <= claim["claimed"] for claim in tiers["claims"])


def check_under_load(server: Server, ask: Callable[[int], object], at_once: int) -> float:
    """Every scrape and dump adds up while so many requests at once are made; returns the most pages seen live.

    The load goes on until it was seen often enough, however seldom this process has its turn.
    """
    numbers, over, live = count(), Event(), [0.0]
    check_scrape(server.metrics())  # of an idle engine: where a busy one is slow to answer, these figures stand

    def client() -> None:
        while not over.is_set():
            ask(next(numbers))

    with ThreadPoolExecutor(at_once) as pool:
        clients = [pool.submit(client) for _ in range(at_once)]
        try:
            while sum(pages > 0 for pages in live) < _SCRAPES and not any(one.done() for one in clients):
                metrics = server.metrics()
                check_scrape(metrics)
                check_dump(dump_of(server))
                live.append(in_state(metrics, "live"))
        finally:
            over.set()
        for one in clients:
            one.result()
    return max(live)


def check_same(server: Server) -> tuple[dict[str, float], dict[str, Any]]:
    """A dump and the metrics of an idle server say the same; returns both."""
    for _ in range(100):  # the collector may be at work between two answers
        before, found, after = server.metrics(), dump_of(server), server.metrics()
        check_scrape(before)
        check_dump(found)
        if pages_of(before) == pages_of(after):
            break
    device = [group for group in found["groups"] if group["tier"] == "device"]
    assert pages_of(before) == {group["name"]: group["pages"] for group in device}
    for group in found["groups"]:
        for state, pages in group["pages"].items():
            assert in_state(before, state, group["name"], group["tier"]) == sum(pages.values())
    if found["tiers"] is not None and found["tiers"]["disk"] is not None:
        for name, figure in (("pages", "pages"), ("reading_pages", "reading"), ("writing_pages", "writing")):
            assert before[f"infergc_disk_cache_{name}"] == found["tiers"]["disk"][figure]
    return before, found
