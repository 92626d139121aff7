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

from samples import served_model, slow_sim
from samples.inspection import ADMIN_KEY, HEADERS, check_same
from samples.servers import START_SECONDS, Server, serving

CLIENT_KEY = "cl1ent"
EXAMPLES = 4  # of each route and way to make them
GENERATING = ("/v1/completions", "/v1/chat/completions")
MOST_TOKENS, MOST_CHOICES, IDS = 8, 4, 300
TEXTS = st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=3)
# What depends on the model, on the server's flags or on other fields is not told by any description.
ELSEWHERE = {
    "use_beam_search", "beam_width", "length_penalty", "early_stopping", "min_tokens", "max_completion_tokens",
    "top_logprobs", "stream_options", "model", "priority", "cache_control", "logit_bias", "stop_token_ids",
    "structured_outputs", "response_format", "best_of", "echo", "prompt_logprobs", "tools", "tool_choice", "functions",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = served_model.save(tmp_path_factory.mktemp("served"))
    flags = ("--executor", "infergc.sim.executor:create_executor", "--kv-cache-memory", "4MiB")
    with serving(model, *flags, INFERGC_ADMIN_KEY=ADMIN_KEY) as running:
        yield running


@pytest.fixture
def sound(server: Server) -> Iterator[None]:
    """Whatever was asked: nobody waits afterwards, no page is held, and the laws hold."""
    yield
    server.wait_until_idle()
    assert server.http.post("/v1/kv/heap/verify", headers=HEADERS).json()["found"] == ""
    metrics, _ = check_same(server)
    assert not metrics["infergc_queue_requests"]
    assert not metrics["infergc_queue_reading_requests"]


def test_what_is_made_from_the_description_is_answered_as_it_says(server: Server, sound: None, tmp_path: Path) -> None:
    """Requests to every route, right and wrong ones: no 5xx, no hang, and no answer that is not described."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json",
               "--header", f"Authorization: Bearer {ADMIN_KEY}", "--phases", "coverage,fuzzing",
               "--max-examples", str(EXAMPLES), "--seed", "1", "--generation-deterministic",
               "--request-timeout", "60", "--no-color", "--exclude-checks", "positive_data_acceptance"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * START_SECONDS, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", GENERATING)
def test_what_it_says_of_generating_is_served(server: Server, sound: None, path: str) -> None:
    """Whatever fields a request has: those of which all is told are right as they were made."""
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path]["POST"]

    @given(case=operation.as_strategy(), texts=TEXTS)
    @settings(max_examples=6 * EXAMPLES)
    def ask(case: schemathesis.Case, texts: list[str]) -> None:
        case.body = possible(case.body, texts)
        assert case.call_and_validate(timeout=60).status_code == HTTPStatus.OK

    ask()


def possible(body: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """The request, within what this model and this server can do, and short."""
    kept = {name: whole(value) for name, value in body.items() if name not in ELSEWHERE}
    if "messages" in kept:
        kept["messages"] = [{"role": "user", "content": text} for text in texts]
    else:
        kept["prompt"] = texts
    kept["n"] = 1 + (kept.get("n") or 0) % MOST_CHOICES
    kept["max_tokens"] = 1 + (kept.get("max_tokens") or 0) % MOST_TOKENS
    return kept


def whole(value: Any) -> Any:
    """To JSON schema 3.0 is an integer; to this server, as to the OpenAI API, it is none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_it_says_which_key_a_path_wants(tmp_path: Path) -> None:
    model = served_model.save(tmp_path / "tiny")
    flags = ("--executor", slow_sim.NAME, "--api-key", CLIENT_KEY, "--admin-key", ADMIN_KEY)
    with serving(model, *flags) as running:
        described = running.http.get("/openapi.json", headers={"authorization": f"Bearer {CLIENT_KEY}"}).json()
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                assert operation["security"] == wanted(path), path
                refused = running.http.request(method, path).status_code == HTTPStatus.UNAUTHORIZED
                assert refused == bool(operation["security"]), path


def wanted(path: str) -> list[dict[str, list[str]]]:
    """The keys of a path, as a description says them."""
    if path.startswith("/health"):
        return []
    return [{"admin" if path.startswith("/v1/kv/") else "key": []}]


def test_head_is_answered_and_every_method_is_named(server: Server) -> None:
    assert server.http.head("/health").status_code == HTTPStatus.OK
    answer = server.http.head("/v1/models")
    assert (answer.content, int(answer.headers["content-length"]) > 0) == (b"", True)
    assert server.http.head("/v1/completions").status_code == HTTPStatus.METHOD_NOT_ALLOWED
    for path, methods in (("/v1/kv/heap/settings", "GET, HEAD, PATCH"), ("/v1/completions", "POST")):
        refused = server.http.options(path, headers=HEADERS)
        assert (refused.status_code, refused.headers["allow"]) == (HTTPStatus.METHOD_NOT_ALLOWED, methods)
