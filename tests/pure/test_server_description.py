"""The server's description of itself is true: requests made from it, by schemathesis, against a real process."""

import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from samples import served_model, slow_sim
from samples.inspection import ADMIN_KEY, check_same
from samples.servers import START_SECONDS, Server, serving

CLIENT_KEY = "cl1ent"
EXAMPLES = 6  # of each route and way to make them; --fuzz-examples for more
GENERATING = ("/v1/completions", "/v1/chat/completions")
MOST_TOKENS, MOST_CHOICES, LARGEST_ID = 8, 4, 300
TEXTS = st.text(max_size=40)
# Of what is described these depend on the model, on the server's flags or on each other, which no description can tell.
ALONE = ("use_beam_search", "beam_width", "length_penalty", "early_stopping", "cache_control", "priority", "min_tokens",
         "queue_timeout", "model", "stream_options", "top_logprobs", "max_completion_tokens", "session_id")  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = served_model.save(tmp_path_factory.mktemp("served"))
    flags = ("--executor", slow_sim.NAME, "--kv-cache-memory", "4MiB")
    with serving(model, *flags, INFERGC_ADMIN_KEY=ADMIN_KEY) as running:
        yield running


@pytest.fixture
def sound(server: Server) -> Iterator[None]:
    """Whatever was asked: nobody waits afterwards, no page is held, and the laws hold."""
    yield
    server.wait_until_idle()
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    assert server.http.post("/v1/kv/heap/verify", headers=headers).json()["found"] == ""
    metrics, _ = check_same(server)
    assert not server.requests("waiting")
    assert not metrics["infergc_queue_reading"]


def test_whatever_is_made_from_the_description_is_answered_as_described(
    server: Server, sound: None, tmp_path: Path
) -> None:
    """Right and wrong requests to every route: no 5xx, no hang, and nothing that the description does not say."""
    options = ["--max-examples", str(EXAMPLES), "--phases", "coverage,fuzzing", "--seed", "1", "--no-color",
               "--generation-deterministic", "--generation-database", "none", "--request-timeout", "60",
               "--exclude-checks", "positive_data_acceptance"]  # fmt: skip
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", *options]
    command += ["--header", f"Authorization: Bearer {ADMIN_KEY}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", GENERATING)
def test_what_it_says_of_generating_is_served(server: Server, sound: None, path: str) -> None:
    """Requests that ask for something are made for the greater part of what the description tells."""
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path]["POST"]

    @given(case=operation.as_strategy(), texts=st.lists(TEXTS, min_size=1, max_size=3))
    @settings(max_examples=4 * EXAMPLES)
    def ask(case: schemathesis.Case, texts: list[str]) -> None:
        case.body = bent(case.body, texts)
        response = case.call(timeout=60)
        case.validate_response(response, checks=CHECKS.get_all(), excluded_checks=[])
        assert response.status_code == HTTPStatus.OK, response.text

    ask()


def bent(body: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """The request, within what this model serves in no time."""
    kept = {name: value for name, value in body.items() if name not in ALONE}
    if "messages" in kept:
        kept["messages"] = [{"role": "user", "content": text} for text in texts]
        kept["logprobs"] = bool(kept.get("logprobs"))
    return kept | {"max_tokens": 1 + (kept.get("max_tokens") or 0) % MOST_TOKENS}
