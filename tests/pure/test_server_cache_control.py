"""``cache_control`` over HTTP: a real server process, the real openai client, the simulated executor."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from samples import served_model, slow_sim
from samples.servers import Server, serving, wait_for

PROMPT = [5, 6, 7, 8] * 20  # 5 pages of 16


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = served_model.save(tmp_path_factory.mktemp("served"))
    flags = ("--executor", slow_sim.NAME, "--served-model-name", "tiny", "--kv-cache-memory", "2MiB")
    with serving(model, *flags) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def complete(client: openai.OpenAI, control: Any, prompt: Any = PROMPT, **asked: Any) -> Any:
    asked = {"max_tokens": 2, "seed": 1, **asked}
    return client.completions.create(model="tiny", prompt=prompt, extra_body={"cache_control": control}, **asked)


def test_a_pin_is_told_counted_and_ends(server: Server, client: openai.OpenAI) -> None:
    before = server.metrics()
    usage = complete(client, {"type": "ephemeral", "pin": True, "ttl": 2}).usage
    assert usage.prompt_tokens_details.pinned_tokens == 80
    metrics = server.metrics()
    assert metrics["infergc_kv_pinned_pages"] == 5
    assert metrics["infergc_kv_pins"] == 1
    asked = 'infergc_kv_pin_requests_total{outcome="pinned"}'
    assert metrics[asked] == before[asked] + 1
    wait_for(lambda: not server.metrics()["infergc_kv_pins"], "the pin did not end")
    assert server.metrics()['infergc_kv_pins_ended_total{reason="ttl"}'] == 1


def test_a_pin_over_the_budget_is_refused_and_the_request_served(server: Server, client: openai.OpenAI) -> None:
    metrics = server.metrics()
    budget = int(metrics["infergc_kv_pin_budget_pages"])
    (capacity,) = (pages for name, pages in metrics.items() if name.startswith("infergc_kv_pages_capacity"))
    assert budget == int(0.1 * capacity) > 0
    answer = complete(client, {"pin": True}, prompt=[9] * 16 * (budget + 1))
    assert answer.usage.prompt_tokens_details.pinned_tokens == 0
    assert answer.choices[0].finish_reason == "length"
    assert server.metrics()['infergc_kv_pin_requests_total{outcome="refused"}'] == 1


def test_who_asks_for_no_pin_is_told_of_none(client: openai.OpenAI) -> None:
    details = complete(client, {"type": "ephemeral", "ttl": "1h", "priority": 70}).usage.prompt_tokens_details
    assert "pinned_tokens" not in details.model_dump()
    assert complete(client, None).choices


def test_streams_and_chats_have_it_too(client: openai.OpenAI) -> None:
    chunks = list(complete(client, {"pin": True, "ttl": 1}, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.prompt_tokens_details.pinned_tokens == 80
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hello " * 20}], max_tokens=2,
        extra_body={"cache_control": {"type": "ephemeral", "pin": True, "ttl": 1}},
    )  # fmt: skip
    assert chat.usage.prompt_tokens_details.pinned_tokens >= 16


def test_several_prompts_are_counted_together(client: openai.OpenAI) -> None:
    usage = complete(client, {"pin": True, "ttl": 1}, prompt=[[11] * 32, [12] * 20]).usage
    assert usage.prompt_tokens_details.pinned_tokens == 48


@pytest.mark.parametrize(
    ("control", "field"),
    [
        ("ephemeral", "cache_control"),
        ([], "cache_control"),
        ({"type": "persistent"}, "cache_control.type"),
        ({"ttl": "soon"}, "cache_control.ttl"),
        ({"ttl": 0}, "cache_control.ttl"),
        ({"ttl": 1e9}, "cache_control.ttl"),
        ({"ttl": {}}, "cache_control.ttl"),
        ({"priority": 101}, "cache_control.priority"),
        ({"priority": "high"}, "cache_control.priority"),
        ({"pin": "yes"}, "cache_control.pin"),
        ({"type": "ephemeral", "scope": "all"}, "cache_control.scope"),
    ],
)
def test_bad_input_is_refused_by_name(client: openai.OpenAI, control: Any, field: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        complete(client, control)
    assert error.value.param == field
    assert field in error.value.body["message"]


def test_without_a_prefix_cache_it_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = served_model.save(tmp_path_factory.mktemp("uncached"))
    with serving(model, "--executor", slow_sim.NAME, "--no-enable-prefix-caching") as server:
        body = {"prompt": "hello", "max_tokens": 1, "cache_control": {"pin": True}}
        answer = server.http.post("/v1/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "cache_control")


def test_where_retention_does_not_heed_them_wishes_are_refused_and_pins_hold(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    model = served_model.save(tmp_path_factory.mktemp("arc"))
    with serving(model, "--executor", slow_sim.NAME, "--retention-policy", "arc") as server:
        for control, status in (({"priority": 80}, 400), ({"ttl": "1h"}, 400), ({"pin": True}, 200)):
            body = {"prompt": "hello", "max_tokens": 1, "cache_control": control}
            answer = server.http.post("/v1/completions", json=body)
            assert answer.status_code == status
            if status == 400:
                assert "--retention-policy generational" in answer.json()["error"]["message"]
