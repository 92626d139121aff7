"""A needle for each tenant of a real server: no other ever finds it, wherever it lies, and every answer is right.

What tenants ask begins with a text that is declared public, goes on with one that all have but nobody declared, and
ends with the tenant's needle. Whatever becomes of the server, what a tenant finds of another's is the public text.
"""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cpu.families import make_family
from samples import tokenizer_dirs
from samples.inspection import ADMIN_KEY, HEADERS
from samples.persisted import Persisted
from samples.servers import Server, serving, wait_for

PAGE, TOKENS = 16, 12
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 1, "head_dim": 16}  # fmt: skip
PAGE_BYTES = 2 * 2 * PAGE * 16 * 4
POOL = 48  # pages: fewer than the tenants' prompts have together
KEYS = ("alpha", "beta", "gamma")
SALTS = count()
EXACT = ("--dtype", "float32", "--threads", "1", "--deterministic")
PUBLIC = "It was the best of times, it was the worst of times, and so on. " * 2
COMMON = np.random.default_rng(5).integers(3, 300, 3 * PAGE + 5).tolist()  # that all tenants send, and nobody declared


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    vocabulary = tokenizer_dirs.build("byte-level").get_vocab_size()
    make_family("llama3", directory, 4, vocab_size=vocabulary, eos_token_id=1, **SHAPE)
    return tokenizer_dirs.save("byte-level", directory)


@pytest.fixture(scope="module")
def plain(model: Path) -> Iterator[Server]:
    """A server that computes everything for one client at a time: what others answer is to be the same."""
    with serving(model, *EXACT, "--no-enable-prefix-caching", "--max-num-seqs", "1") as server:
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "public").write_text(PUBLIC)
    return tmp_path


def tiered(model: Path, place: Path, **options: Any) -> Any:
    """A server with a pool that is too small, and tiers below it; its storage is guarded, and freed pages poisoned."""
    keys = [flag for key in KEYS for flag in ("--api-key", key)]
    sizes = ("--kv-cache-memory", str(POOL * PAGE_BYTES), "--host-cache-memory", str(POOL * PAGE_BYTES))
    disk = ("--disk-cache-dir", str(place / "kv"), "--disk-cache-size", "16MiB")  # small segments: the test reads them
    moves = ("--tiering-policy", "always", "--preemption", "swap", "--admission-policy", "page-each")
    debug = ("--public-prefix", str(place / "public"), "--heap-debug", "--max-num-seqs", "4", "--max-model-len", "512")
    return serving(model, *EXACT, *keys, *sizes, *disk, *moves, *debug, INFERGC_ADMIN_KEY=ADMIN_KEY, **options)


def ask(server: Server, prompt: list[int], key: str = "", **fields: Any) -> tuple[str, int]:
    """What is answered to a prompt, and how many of its tokens were cached."""
    body = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True, **fields}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = server.http.post("/v1/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"], answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


class Tenants:
    """What the tenants ask, and what a server that computes everything says to it.

    Attributes:
        begins: the public text's ids.
    """

    def __init__(self, plain: Server) -> None:
        self._plain = plain
        self._answers: dict[tuple[int, ...], str] = {}
        self.begins = plain.http.post("/tokenize", json={"prompt": PUBLIC}).json()["tokens"]

    def prompt(self, key: str, turn: int) -> list[int]:
        """A tenant's, with its needle of this turn."""
        needle = np.random.default_rng([KEYS.index(key), turn]).integers(3, 300, 4 * PAGE).tolist()
        return [*self.begins, *COMMON, *needle, 7]

    def answer(self, prompt: list[int]) -> str:
        """What is to be said to it."""
        if tuple(prompt) not in self._answers:
            self._answers[tuple(prompt)] = ask(self._plain, prompt)[0]
        return self._answers[tuple(prompt)]

    def hide(self, server: Server, turn: int) -> None:
        """Each asks with its needle."""
        for key in KEYS:
            assert ask(server, self.prompt(key, turn), key)[0] == self.answer(self.prompt(key, turn))

    def seek(self, server: Server, turn: int) -> None:
        """Each looks for the others' needles: all that it finds is public, or what it asked itself.

        Under a salt that it never used it is the whole pages that are public. Then each finds its own.
        """
        public = len(self.begins) // PAGE * PAGE
        for key in KEYS:
            for other in (one for one in KEYS if one != key):
                prompt = self.prompt(other, turn)
                for most, fields in ((public, {"cache_salt": str(next(SALTS))}), (len(self.begins) + len(COMMON), {})):
                    answer, cached = ask(server, prompt, key, **fields)
                    assert answer == self.answer(prompt)
                    assert cached <= most, (key, other, turn)
        for key in KEYS:
            assert ask(server, self.prompt(key, turn), key)[0] == self.answer(self.prompt(key, turn))


@pytest.fixture(scope="module")
def tenants(plain: Server) -> Tenants:
    return Tenants(plain)


def flood(server: Server, _: Tenants, turn: int) -> None:
    """Prompts that nobody asks for again, more at a time than the pool holds: requests give way, and are swapped."""
    rng = np.random.default_rng(turn)
    prompts = [(key, rng.integers(3, 300, 11 * PAGE).tolist()) for key in KEYS * 2]
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda one: ask(server, one[1], one[0], max_tokens=100), prompts))


def leave(server: Server, tenants: Tenants, turn: int) -> None:
    """Clients with needles that go in the middle of an answer."""
    for key in KEYS:
        body = {"prompt": tenants.prompt(key, turn), "max_tokens": 200, "ignore_eos": True, "stream": True}
        headers = {"authorization": f"Bearer {key}"}
        with server.http.stream("POST", "/v1/completions", json=body, headers=headers) as stream:
            next(stream.iter_lines())


def test_no_tenant_sees_anothers_needle(model: Path, tenants: Tenants, place: Path) -> None:
    disturbances: tuple[Callable[[Server, Tenants, int], None], ...] = (flood, leave)
    with tiered(model, place, ends_with=-signal.SIGKILL) as server:
        for turn, disturb in enumerate(disturbances):
            tenants.hide(server, turn)
            disturb(server, tenants, turn)
            tenants.seek(server, turn)
        check_sound(server)
        check_tiers_were_used(server)
        tenants.hide(server, len(disturbances))
        wait_for(lambda: all(_is_saved(tenants, key, len(disturbances), place) for key in KEYS))
        kill(server)
    with tiered(model, place) as server:
        for key in KEYS:  # each its own, though another asked last, and public pages among them
            prompt = tenants.prompt(key, len(disturbances))
            assert ask(server, prompt, key) == (tenants.answer(prompt), (len(prompt) - 1) // PAGE * PAGE)
        tenants.seek(server, len(disturbances))
        check_sound(server)


def check_sound(server: Server) -> None:
    """The laws hold, and nothing is held by a request that is gone."""
    wait_for(lambda: not _metrics(server)['infergc_requests{state="running"}'])
    assert server.http.post("/v1/kv/heap/verify", headers=HEADERS).json()["found"] == ""


def check_tiers_were_used(server: Server) -> None:
    figures = _metrics(server)
    assert figures['infergc_preemptions_by_way_total{way="swap"}'] > 0
    assert figures["infergc_evicted_pages_total"] > POOL


def kill(server: Server) -> None:
    """kill -9 of the server and its engine."""
    processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()
    server.process.wait()
    psutil.wait_procs(processes)


def _is_saved(tenants: Tenants, key: str, turn: int, place: Path) -> bool:
    """Whether a tenant's pages are on disk: they hang on its door, so they are found there without the public ones."""
    own = tenants.prompt(key, turn)[len(tenants.begins) // PAGE * PAGE :]
    return Persisted(place / "kv", PAGE, PAGE_BYTES).tokens(own) == len(own) // PAGE * PAGE


def _metrics(server: Server) -> dict[str, float]:
    server.http.headers["authorization"] = f"Bearer {KEYS[0]}"
    return server.metrics()
