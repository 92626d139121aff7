"""Looking into a server with a host tier and a disk, of its own process: the sums agree, and the commands show it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infergc.engine.tier_stats import TRANSFERS
from samples import served_model, slow_sim
from samples.inspection import ADMIN_KEY, check_same, check_under_load, in_state, tiers_of
from samples.servers import Server, environment, infergc_result, serving

TEXT = "the quick brown fox jumps over the lazy dog " * 4
FLAGS = (
    "--executor", slow_sim.NAME, "--served-model-name", "tiny", "--kv-cache-memory", "320KiB", "--max-model-len", "500",
    "--host-cache-memory", "2MiB", "--disk-cache-dir", "nowhere", "--preemption", "swap",
    "--admission-policy", "page-each",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = served_model.save(tmp_path_factory.mktemp("served"))
    with serving(model, *FLAGS, INFERGC_ADMIN_KEY=ADMIN_KEY) as running:
        check_under_load(running, lambda number: complete(running, number), at_once=8)
        yield running


def complete(server: Server, number: int) -> None:
    body = {"prompt": f"{number % 40} {TEXT}", "max_tokens": 200, "ignore_eos": True}
    assert server.http.post("/v1/completions", json=body).status_code == 200


def labelled(metrics: dict[str, float], name: str) -> dict[str, float]:
    """A family's samples by the last of their labels, which are sorted."""
    return {re.findall(r'="([^"]*)"', key)[0]: value for key, value in metrics.items() if key.startswith(f"{name}{{")}


def test_the_start_up_message_names_the_disk(server: Server) -> None:
    assert "\nDisk tier: at most 10.0 GiB in nowhere\n" in server.announcement


def test_sums_are_those_of_the_metrics(server: Server) -> None:
    metrics, found = check_same(server)
    assert tiers_of(metrics) == {"device", "host"}
    assert {group["tier"] for group in found["groups"]} == {"device", "host"}
    assert in_state(metrics, "cached", tier="host") > 0
    assert (
        found["tiers"]["disk"]["pages"] * metrics['infergc_kv_page_bytes{group="full"}']
        == (metrics['infergc_kv_bytes{state="cached",tier="disk"}'])
    )


def test_what_was_moved_is_told_by_reason_in_pages_and_bytes(server: Server) -> None:
    metrics = server.metrics()
    size = metrics['infergc_kv_page_bytes{group="full"}']
    reasons = labelled(metrics, "infergc_kv_transfer_pages_total")
    assert reasons.keys() == TRANSFERS.keys()
    assert reasons["demoted"] + reasons["saved"] > 0
    assert reasons["written"] > 0
    moved = labelled(metrics, "infergc_kv_transfer_bytes_total")
    assert moved == {reason: pages * size for reason, pages in reasons.items()}
    assert metrics["infergc_kv_copied_bytes_total"] == moved["demoted"] + moved["saved"] + moved["promoted"]
    assert 0 < metrics["infergc_kv_transfer_runs_total"] <= metrics["infergc_kv_copied_bytes_total"] / size
    assert metrics["infergc_disk_cache_written_bytes_total"] == moved["written"]
    labels = 'engine="0",model_name="tiny",transfer_type='
    assert metrics[f'vllm:kv_offload_total_bytes_total{{{labels}"CPU_to_GPU"}}'] == moved["promoted"]
    assert metrics[f'vllm:kv_offload_total_bytes_total{{{labels}"GPU_to_CPU"}}'] == moved["demoted"] + moved["saved"]


def test_victims_and_hits_are_told(server: Server) -> None:
    metrics = server.metrics()
    assert labelled(metrics, "infergc_preemptions_by_way_total")["swap"] > 0
    assert metrics['infergc_requests{state="loading"}'] == 0
    hits, host = metrics["infergc_prefix_tokens_hit_total"], metrics["infergc_prefix_tokens_hit_host_total"]
    assert 0 <= metrics["infergc_prefix_tokens_hit_disk_total"] <= host <= hits
    labels = '{engine="0",model_name="tiny"}'
    assert metrics[f"vllm:prefix_cache_hits_total{labels}"] == hits - host
    assert metrics[f"vllm:external_prefix_cache_hits_total{labels}"] == host


def test_the_commands_show_tiers_and_what_grew(server: Server, tmp_path: Path) -> None:
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    flags = {"env": environment(INFERGC_ADMIN_KEY=ADMIN_KEY, COLUMNS="120")}
    code, out, err = infergc_result("heap", "dump", "--url", server.url, "--json", files[0], **flags)
    assert (code, err) == (0, "")
    assert "Group full: " in out
    assert "Host tier, group full: " in out
    assert "Disk tier: " in out
    assert "on the host" in out
    for number in range(40, 60):
        body = {"prompt": f"another {number} {TEXT}", "max_tokens": 4}
        assert server.http.post("/v1/completions", json=body).status_code == 200
    assert infergc_result("heap", "dump", "--url", server.url, "--json", files[1], **flags)[0] == 0
    code, out, err = infergc_result("heap", "diff", *files)
    assert (code, err) == (0, "")
    cached = [json.loads(file.read_text())["groups"][1]["pages"]["cached"] for file in files]
    assert cached[0] == cached[1] or "host tier, group full: cached" in out
    assert infergc_result("heap", "diff", files[1], files[1])[1] == "Nothing changed.\n"


def test_a_claim_is_shown_by_whom_it_is_for(tmp_path: Path) -> None:
    """What a dump says when a request that gave way waits, as the commands show it."""
    claim = {"kind": "request", "owner": "\x1b[31mred", "claimed": 9, "held": 7, "charged": 5}
    group = {
        "name": "full", "tier": "host", "page_bytes": 1, "capacity": 5, "fragmentation": 0.0,
        "pages": {"free": {"none": 0}, "live": {"none": 5}},
    }  # fmt: skip
    rest = {"step": 3, "objects": [], "in_flight": [], "unowned": {}}
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    for file, charged in zip(files, (5, 7), strict=True):
        tiers = {"claims": [{**claim, "charged": charged}], "unclaimed": 0, "transfers": [], "disk": None}
        file.write_text(json.dumps({**rest, "groups": [group], "tiers": tiers}))
    code, out, _ = infergc_result("heap", "diff", *files, env=environment(COLUMNS="120"))
    assert code == 0
    assert re.search(r'on the host: request "\\u001b\[31mred".*\+2', out)
    assert "\x1b" not in out
