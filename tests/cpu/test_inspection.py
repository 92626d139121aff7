"""Dumps and metrics of a server with a real model: the same sums, under load and at rest."""

from pathlib import Path
from typing import Any

from cpu.served import make_served
from samples.inspection import ADMIN_KEY, check_same, check_under_load, in_state
from samples.servers import Server, infergc_result, serving

FLAGS = ("--dtype", "float32", "--kv-cache-memory", "1MiB", "--threads", "1", "--served-model-name", "real")
PROMPT = "the quick brown fox jumps over the lazy dog "


def complete(server: Server, number: int, **fields: Any) -> None:
    body = {"prompt": PROMPT * (1 + number % 3) + str(number % 4), "max_tokens": 30, "ignore_eos": True, **fields}
    answer = server.http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text


def test_sums_are_those_of_the_metrics(tmp_path: Path) -> None:
    with serving(make_served(tmp_path), *FLAGS, INFERGC_ADMIN_KEY=ADMIN_KEY) as server:
        shapes: tuple[dict[str, Any], ...] = ({}, {"n": 2}, {"session_id": "chat"}, {"use_beam_search": True, "n": 2})

        def ask(number: int) -> None:
            complete(server, number, **shapes[number % len(shapes)])

        most = check_under_load(server, ask, at_once=4)
        metrics, found = check_same(server)
        assert most > in_state(metrics, "live") > 0, "the session keeps its turn and nothing else is left"
        assert [one["session"] for one in found["objects"] if one["pinned"]] == ["chat"]
        assert in_state(metrics, "cached") > 0
        code, out, err = infergc_result("heap", "verify", "--url", server.url, "--admin-key", ADMIN_KEY)
        assert (code, out, err) == (0, "All counts are true, and all laws hold.\n", "")
