"""The Grafana dashboard asks for metrics and labels that a server really has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from samples import served_model, slow_sim
from samples.servers import ROOT, serving

BOARD = json.loads((ROOT / "dashboards" / "infer-gc.json").read_text())
SCRAPED = {"instance"}  # labels that Prometheus adds
SELECTOR = re.compile(r"((?:infergc_|vllm:)\w+)\{([^}]*)\}")
DEFECTS = ("leaked", "garbage_objects", "corrupt", "restarts", "resumptions")  # any at all is told
IDEAS = ("infergc_kv_pages_by_generation", "infergc_kv_collections", "infergc_memory", "infergc_sessions", "vllm:",
         "infergc_prefix", "infergc_kv_residency", "infergc_kv_evicted", "infergc_kv_leaked", "infergc_kv_pin",
         "infergc_kv_transfer_bytes", "infergc_disk_cache_failures", "infergc_preemptions_by_way", "infergc_queue",
         "infergc_requests_refused", "infergc_step_failures", "infergc_engine_restarts",
         "infergc_engine_resumptions")  # fmt: skip


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Of a server with every tier that has answered a request: metric → label → values."""
    found: dict[str, dict[str, set[str]]] = {}
    flags = ("--executor", slow_sim.NAME, "--host-cache-memory", "1MiB", "--disk-cache-dir", "nowhere")
    with serving(served_model.save(tmp_path_factory.mktemp("served")), *flags) as server:
        server.http.post("/v1/completions", json={"prompt": "hello", "max_tokens": 4})
        for sample in server.metrics():
            name, _, inside = sample.partition("{")
            values = found.setdefault(name, {})
            for label, value in re.findall(r'(\w+)="([^"]*)"', inside):
                values.setdefault(label, set()).add(value)
    return found


def targets() -> list[dict[str, Any]]:
    return [target for panel in BOARD["panels"] for target in panel.get("targets", ())]


def test_every_metric_and_label_exists(labels: dict[str, dict[str, set[str]]]) -> None:
    for target in targets():
        selectors = SELECTOR.findall(target["expr"])
        assert len(selectors) == len(re.findall(r"infergc_|vllm:", target["expr"])) > 0, target["expr"]
        for name, inside in selectors:
            assert name in labels, f"{name} is no metric"
            for label, sign, value in re.findall(r'(\w+)(=~?)"([^"]*)"', inside):
                assert label in SCRAPED or value in labels[name].get(label, ()), f"{name} has no {label}{sign}{value}"
            grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
            wanted = {label for group in grouped for label in group.split(", ")}
            wanted |= set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert wanted <= labels[name].keys(), f"{name} has not all of {wanted}"


def test_counters_are_shown_as_rates_and_gauges_are_not() -> None:
    for target in targets():
        for name, _ in SELECTOR.findall(target["expr"]):
            counts = name.endswith(("_total", "_bucket"))
            is_defect = any(word in name for word in DEFECTS)
            assert is_defect or counts == (f"rate({name}{{" in target["expr"]), target["expr"]


def test_it_shows_every_idea_and_names_no_data_source_of_its_own() -> None:
    text = json.dumps([target["expr"] for target in targets()])
    assert [idea for idea in IDEAS if idea not in text] == []
    variables = {variable["name"]: variable["type"] for variable in BOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}
    sources = [one["datasource"] for one in [*targets(), *BOARD["panels"]] if "datasource" in one]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_panels_have_a_number_a_title_and_a_place_of_their_own() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels) > 20
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_file_is_laid_out_to_be_compared(tmp_path: Path) -> None:
    text = (ROOT / "dashboards" / "infer-gc.json").read_text()
    assert text == json.dumps(BOARD, indent=2, ensure_ascii=False) + "\n"
