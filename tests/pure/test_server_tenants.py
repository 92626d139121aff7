"""A server with several API keys: whose cache and whose session is whose. A real process, the simulated executor."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infergc.server.entrance.tenants import Keyring, Tenant
from infergc.server.public_texts import PublicTexts
from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer
from samples import served_model
from samples.inspection import ADMIN_KEY, HEADERS
from samples.servers import Server, infergc_result, serving

KEYS = ("first-key", "second-key", "third-key", "fourth-é")
PAGE = 16
PUBLIC = [3 + at % 200 for at in range(3 * PAGE + 5)]
SYSTEM = [{"role": "system", "content": "You answer shortly, and in the words of the house. " * 3}]
OWN = [300 - at for at in range(4 * PAGE)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def text(model: Path) -> str:
    """A text that is declared public."""
    return "It was the best of times, it was the worst of times, it was the age of wisdom. " * 3


@pytest.fixture(scope="module")
def server(model: Path, text: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("flags")
    (place / "keys").write_text(f"# of the second floor\n{KEYS[2]}\n\n  {KEYS[3]}\n{KEYS[2]}\n", "utf-8")
    (place / "chat.json").write_text(json.dumps(SYSTEM))
    (place / "text").write_text(text)
    flags = ("--api-key", KEYS[0], "--api-key", KEYS[1], "--api-key-file", str(place / "keys"),
             "--public-prefix", str(place / "chat.json"), "--public-prefix", str(place / "text"),
             "--executor", "infergc.sim.executor:create_executor")  # fmt: skip
    with serving(model, *flags, INFERGC_ADMIN_KEY=ADMIN_KEY) as running:
        yield running


def headers(tenant: int) -> dict[str, bytes]:
    return {"authorization": f"Bearer {KEYS[tenant]}".encode()}


def cached(server: Server, tenant: int, path: str = "/v1/completions", **fields: Any) -> int:
    """Ask as a tenant; how many tokens were cached."""
    body = {"max_tokens": 4, "seed": 1, "ignore_eos": True, **fields}
    answer = server.http.post(path, json=body, headers=headers(tenant))
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_each_key_is_let_in_and_no_other(server: Server) -> None:
    for tenant in range(len(KEYS)):
        assert server.http.get("/v1/models", headers=headers(tenant)).status_code == 200
    for wrong in ("", "Bearer", "Bearer first", "first-key", "bearer first-key", "Basic first-key"):
        answer = server.http.get("/v1/models", headers={"authorization": wrong})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_no_tenant_finds_what_another_asked(server: Server) -> None:
    """Whatever it writes into ``cache_salt``: the other's own salt and its key among it."""
    assert cached(server, 0, prompt=OWN) == 0
    assert cached(server, 0, prompt=OWN, cache_salt="mine") == 0
    spoofs = ("", "mine", KEYS[0], _salt(0, ""), _salt(0, "mine"))
    for tenant in (1, 2, 3):
        for spoof in spoofs:
            fields = {"cache_salt": spoof} if spoof else {}
            assert cached(server, tenant, prompt=OWN, **fields) == 0
    for tenant in range(len(KEYS)):
        assert cached(server, tenant, prompt=OWN) == len(OWN) - 1


def test_no_tenant_closes_anothers_session(server: Server) -> None:
    cached(server, 0, prompt=OWN, session_id="talk")
    for params in ({}, {"cache_salt": _salt(0, "")}, {"cache_salt": KEYS[0]}):
        closed = server.http.delete("/v1/sessions/talk", params=params, headers=headers(1))
        assert closed.status_code == 404
    assert server.http.delete("/v1/sessions/talk", headers=headers(0)).status_code == 200


def test_a_declared_text_is_shared_and_what_follows_is_not(server: Server, model: Path, text: str) -> None:
    whole = len(Tokenizer.load(model).encode(text, add_special_tokens=True)) // PAGE * PAGE
    assert whole >= 3 * PAGE
    mine, theirs = (f"{text}{question * 20}" for question in (" How was it?", " What now?"))
    assert cached(server, 0, prompt=mine) == 0
    assert cached(server, 1, prompt=mine) == whole
    assert cached(server, 2, prompt=theirs) == whole
    assert cached(server, 1, prompt=mine) > whole
    assert cached(server, 3, prompt=mine, cache_salt="x") == whole
    # A text that leaves the declared one shares what is declared of it, in whole pages.
    assert cached(server, 3, prompt=text[:120] + mine) in range(PAGE, whole)


def test_a_declared_beginning_of_chats_is_shared(server: Server, model: Path) -> None:
    ids = _declared(model)
    for tenant, question in ((0, "Who are you? " * 9), (1, "Who are you? " * 9), (2, "And where is that? " * 9)):
        messages = [*SYSTEM, {"role": "user", "content": question}]
        found = cached(server, tenant, "/v1/chat/completions", messages=messages)
        assert found == (0 if tenant == 0 else len(ids) // PAGE * PAGE)


def test_keys_are_shown_nowhere(server: Server) -> None:
    cached(server, 0, prompt=OWN, session_id="shown")
    shown = [server.announcement, server.http.get("/v1/kv/heap", headers=HEADERS).text]
    shown += [server.http.get(path, headers=headers(0)).text for path in ("/metrics", "/openapi.json", "/v1/models")]
    secrets = [*KEYS, *(_salt(at, "") for at in range(len(KEYS)))]
    assert not [secret for secret in secrets if any(secret in one for one in shown)]
    assert "secret" not in repr(Keyring(KEYS).tenant(KEYS[0].encode()))


def test_bad_salts_are_refused_by_name(server: Server) -> None:
    sent = {**headers(0), "content-type": "application/json"}
    for salt in ("a" * 2000, "\ud800"):
        content = json.dumps({"prompt": OWN, "cache_salt": salt})
        answer = server.http.post("/v1/completions", content=content, headers=sent)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "cache_salt")


def test_salts_are_the_tenants_and_stay_the_same() -> None:
    """Were they others from now on, nothing would be found of what servers before had written to disk."""
    names = ("", "a", "b", _salt(0, ""))
    salts = {_salt(at, name) for at in range(len(KEYS)) for name in names}
    assert len(salts) == len(KEYS) * len(names)
    assert _salt(0, "a") == "501ca3d1128a2d749c07ef85936402e2fe52212799e8e01595b499e4c47a8d66"
    assert Tenant().salt("a") == "a"


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"short", "text", "has 5 tokens; only whole pages are shared, of 4096 tokens"),
        (b"\xff\xfe", "text", "can't decode"),
        (b"{}", "chat.json", "does not hold a list of messages"),
        (b'[{"rol": "user", "content": "a"}]', "chat.json", "[0].role: is required (rol is not a field)"),
        (b'[{"role": "user", "content": "a", "nam": "b"}]', "chat.json", "[0].nam: is not a known field"),
        (b"[]", "chat.json", "at least one message is needed"),
        (b'[{"role": "assistant", "content": "me"}]', "chat.json", "the user speaks first"),
    ],
)
def test_a_public_text_that_cannot_be_is_refused(
    model: Path, tmp_path: Path, content: bytes, name: str, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^--public-prefix: {path}") as refusal:
        PublicTexts.load([path], Tokenizer.load(model), ChatTemplate.load(model), 4096)
    assert message in str(refusal.value)


def test_how_much_of_a_prompt_is_public() -> None:
    public = PublicTexts([[1, 2, 3, 4], [1, 2, 9], [7]])
    cases = (([], 0), ([2], 0), ([1], 1), ([1, 2, 3, 4, 5], 4), ([1, 2, 9, 9], 3), ([1, 2, 5], 2), ([7, 1], 1))
    for prompt, tokens in cases:
        assert public.leading(prompt) == tokens
    assert PublicTexts().leading([1, 2]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--api-key", ""), "--api-key: a key must not be empty"),
        (("--api-key", "a b"), "--api-key: a key must not have blanks in it"),
        (("--api-key-file", "BLANKS"), "BLANKS, line 3: a key must not have blanks in it; remarks stand on lines"),
        (("--api-key-file", "EMPTY"), "holds no key; leave it out to let everyone in"),
        (("--api-key-file", "/nowhere"), "--api-key-file"),
        (("--public-prefix", "EMPTY", "--no-enable-prefix-caching"), "--public-prefix: is only allowed with"),
        (("--public-prefix", "EMPTY"), "EMPTY has 1 tokens"),
    ],
)
def test_wrong_flags_are_refused(model: Path, tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    (tmp_path / "BLANKS").write_text("# two\nkey\na b # mine\n")
    (tmp_path / "EMPTY").write_text("# none\n" if "--api-key-file" in flags else "")
    code, _, err = infergc_result("serve", model.resolve(), *flags, cwd=tmp_path)
    assert code == 2
    assert message in err
    assert "a b" not in err


def _salt(tenant: int, name: str) -> str:
    found = Keyring(KEYS).tenant(KEYS[tenant].encode())
    assert found is not None
    return found.salt(name)


def _declared(model: Path) -> list[int]:
    text = ChatTemplate.load(model).render(SYSTEM, add_generation_prompt=False)
    return Tokenizer.load(model).encode(text, add_special_tokens=False)
