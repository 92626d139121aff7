"""Servers of a real model that are killed: what their disk tier had written is there for those that come after."""

import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from cpu.families import make_family
from infergc.units import KIB
from samples import tokenizer_dirs
from samples.disk_pages import segments
from samples.inspection import ADMIN_KEY, HEADERS
from samples.lengths import at_length
from samples.persisted import Persisted
from samples.servers import START_SECONDS, Server, serving, wait_for

LAYERS, HEAD_DIM, PAGE = 4, 32, 16
SHAPE = {"hidden_size": 320, "intermediate_size": 1024, "num_hidden_layers": LAYERS, "num_attention_heads": 10,
         "num_key_value_heads": 1, "head_dim": HEAD_DIM}  # fmt: skip
PAGE_BYTES = 2 * LAYERS * PAGE * HEAD_DIM * 4
assert PAGE_BYTES == 16 * KIB
SEGMENT_PAGES = 12
SIZE = str(32 * (SEGMENT_PAGES * (PAGE_BYTES + 256) + 8 * KIB))  # 32 segments of so many pages
FLAGS = ("--dtype", "float32", "--threads", "1", "--kv-cache-memory", "4MiB", "--host-cache-memory", "4MiB",
         "--max-num-seqs", "8", "--disk-cache-size", SIZE, "--tiering-policy", "always")  # fmt: skip
LENGTHS = (200, 224, 97, 130, 255, 180, 310, 161)
TOKENS = 12  # of an answer
ENOUGH = 0.95
KILLED = -signal.SIGKILL
FAILURES = ("corrupt", "truncated", "vanished")
TENANT, SESSION = "tenant-a", "talk"


def prompt(number: int, length: int = 0) -> list[int]:
    """Token ids that share no page with another number's."""
    length = length or LENGTHS[number % len(LENGTHS)]
    return np.random.default_rng(number).integers(3, 400, length).tolist()


PROMPTS = [prompt(number) for number in range(len(LENGTHS))]
TALK, MORE = prompt(900, 150), prompt(901, 40)


def hittable(tokens: list[int]) -> int:
    """How many tokens of a prompt can be cached: whole pages before its last token."""
    return (len(tokens) - 1) // PAGE * PAGE


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), seed=2)


def make_model(directory: Path, seed: int) -> Path:
    vocabulary = tokenizer_dirs.build("byte-level").get_vocab_size()
    make_family("llama3", directory, seed, vocab_size=vocabulary, eos_token_id=1, **SHAPE)
    return tokenizer_dirs.save("byte-level", directory)


@pytest.fixture(scope="module")
def plain(model: Path) -> Iterator[Server]:
    """A server that computes everything: what others answer is to be the same."""
    flags = ("--dtype", "float32", "--threads", "1", "--kv-cache-memory", "4MiB", "--no-enable-prefix-caching")
    with serving(model, *flags) as server:
        yield server


@pytest.fixture(scope="module")
def filled(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a server left that had answered everything, was given a moment, and was killed."""
    directory = tmp_path_factory.mktemp("filled") / "kv"
    texts = [*PROMPTS, TALK]
    with disk_server(model, directory, ends_with=KILLED) as server:
        for text in PROMPTS:
            assert asked(server, text)[1] == 0
        asked(server, TALK, session_id=SESSION)
        asked(server, PROMPTS[0], cache_salt=TENANT)
        wait_for(lambda: all_on_disk(directory, texts))
        pages = sum(len(text) // PAGE for text in [*texts, PROMPTS[0]])
        wait_for(lambda: len(on_disk(directory)) >= pages)
        kill(server)
    return directory


def disk_server(model: Path, directory: Path, **options: Any) -> Any:
    return serving(model, *FLAGS, "--disk-cache-dir", str(directory), INFERGC_ADMIN_KEY=ADMIN_KEY, **options)


def asked(server: Server, tokens: list[int], **fields: Any) -> tuple[str, int]:
    """What is answered to a prompt, and how many of its tokens were cached."""
    body = {"prompt": tokens, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True, **fields}
    answer = server.http.post("/v1/completions", json=body).raise_for_status().json()
    assert answer["usage"]["prompt_tokens"] == len(tokens)
    return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def kill(server: Server) -> None:
    """kill -9 of the server and its engine, neither of which sees the other go."""
    processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    assert len(processes) == 2
    for process in processes:
        process.suspend()
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    server.process.wait()
    psutil.wait_procs(processes)


def on_disk(directory: Path) -> Persisted:
    return Persisted(directory, PAGE, PAGE_BYTES)


def all_on_disk(directory: Path, texts: list[list[int]]) -> bool:
    """Whether every whole page of these lies there."""
    there = on_disk(directory)
    return all(there.tokens(text) == len(text) // PAGE * PAGE for text in texts)


def check_sound(server: Server) -> None:
    """The laws hold, and nothing is held by a request that is gone."""
    server.wait_until_idle()
    assert server.http.post("/v1/kv/heap/verify", headers=HEADERS).json()["found"] == ""


def copy(directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(directory, tmp_path / "kv"))


def test_after_a_kill_all_that_was_persisted_is_found(model: Path, plain: Server, filled: Path, tmp_path: Path) -> None:
    """Prompts that come at once, a session, and tenants, of which each finds its own alone."""
    with disk_server(model, copy(filled, tmp_path)) as server:
        assert asked(server, PROMPTS[1], cache_salt=TENANT) == (asked(plain, PROMPTS[1])[0], 0)
        assert asked(server, PROMPTS[0], cache_salt="another") == (asked(plain, PROMPTS[0])[0], 0)
        assert asked(server, PROMPTS[0], cache_salt=TENANT) == (asked(plain, PROMPTS[0])[0], hittable(PROMPTS[0]))
        with ThreadPoolExecutor(len(PROMPTS)) as clients:
            found = list(clients.map(lambda text: asked(server, text), PROMPTS))
        assert [answer for answer, _ in found] == [asked(plain, text)[0] for text in PROMPTS]
        assert [cached for _, cached in found] == [hittable(text) for text in PROMPTS]
        check_session(server, plain, filled)
        check_sound(server)


def test_an_engine_that_is_killed_alone_leaves_its_disk_to_the_next(
    model: Path, plain: Server, filled: Path, tmp_path: Path
) -> None:
    """What it found and what it wrote itself; the server stays up."""
    directory, news = copy(filled, tmp_path), [prompt(number) for number in range(300, 304)]
    with disk_server(model, directory) as server:
        for text in news:
            asked(server, text)
        wait_for(lambda: all_on_disk(directory, news))
        (engine,) = psutil.Process(server.process.pid).children()
        engine.kill()
        wait_for(lambda: server.metrics()["infergc_engine_restarts_total"] == 1, patience=START_SECONDS)
        check_found(server, plain, directory, [*PROMPTS, *news])
        check_sound(server)


def check_session(server: Server, plain: Server, directory: Path) -> None:
    """A session that began before the kill goes on, with the answer that was given then and one turn more."""
    said = {"prompt": asked(plain, TALK)[0], "add_special_tokens": False}
    turn = [*TALK, *plain.http.post("/tokenize", json=said).json()["tokens"], *MORE]
    persisted = on_disk(directory).tokens(turn)
    assert persisted >= hittable(TALK)
    answer, cached = asked(server, turn, session_id=SESSION)
    assert answer == asked(plain, turn)[0]
    assert cached >= ENOUGH * persisted
    server.http.delete(f"/v1/sessions/{SESSION}").raise_for_status()


def test_other_weights_find_nothing(plain: Server, filled: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", seed=3)
    with disk_server(other, copy(filled, tmp_path)) as server:
        found = [asked(server, text) for text in PROMPTS]
        assert [cached for _, cached in found] == [0] * len(PROMPTS)
        answers = [answer for answer, _ in found]
        assert answers != [asked(plain, text)[0] for text in PROMPTS]
        assert answers == [asked(server, text)[0] for text in PROMPTS]
        check_sound(server)


def test_two_servers_in_one_directory(model: Path, plain: Server, tmp_path: Path) -> None:
    """They write at the same time, one is killed, and who comes next finds what both had written."""
    directory, both = tmp_path / "kv", [[prompt(at) for at in range(first, first + 8)] for first in (100, 200)]
    with disk_server(model, directory) as stays:
        with disk_server(model, directory, ends_with=KILLED) as goes, ThreadPoolExecutor(8) as clients:
            asking = [(goes, stays)[at % 2] for at in range(16)]
            texts = [both[at % 2][at // 2] for at in range(16)]
            answers = list(clients.map(lambda server, text: asked(server, text)[0], asking, texts))
            wait_for(lambda: all_on_disk(directory, texts))
            kill(goes)
        assert answers == [asked(plain, text)[0] for text in texts]
        check_found(stays, plain, directory, both[1])
        with disk_server(model, directory) as comes:
            check_found(comes, plain, directory, texts)
            check_sound(comes)
        check_sound(stays)


def test_damaged_segments_are_a_miss_and_a_count(model: Path, plain: Server, filled: Path, tmp_path: Path) -> None:
    directory = copy(filled, tmp_path)
    page, entry, short, gone, *rest = segments(directory)
    assert rest
    for path, at in ((page, -1000), (entry, 80)):  # in its last page; in its first entry
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
    os.truncate(short, short.stat().st_size - PAGE_BYTES // 2)
    with disk_server(model, directory) as server:
        gone.unlink()
        found = [asked(server, text) for text in PROMPTS]
        assert [answer for answer, _ in found] == [asked(plain, text)[0] for text in PROMPTS]
        assert 0 < sum(cached for _, cached in found) < sum(map(hittable, PROMPTS))
        check_sound(server)
        metrics = server.metrics()
        failures = [metrics[f'infergc_disk_cache_failures_total{{kind="{why}"}}'] for why in FAILURES]
        assert min(failures) > 0, failures


def test_servers_that_are_killed_while_they_write(model: Path, plain: Server, tmp_path: Path) -> None:
    """Each finds what those before it had written, and is killed when it has written so many pages more."""
    directory, numbers, texts = tmp_path / "kv", count(), list[list[int]]()
    for pages in at_length((30,), (1, 30)):
        with disk_server(model, directory, ends_with=KILLED) as server:
            check_found(server, plain, directory, texts)
            enough = len(on_disk(directory)) + pages
            texts += killed_under_load(server, numbers, directory, enough)
    with disk_server(model, directory) as server:
        check_found(server, plain, directory, texts)
        check_sound(server)


def killed_under_load(server: Server, numbers: Iterator[int], directory: Path, enough: int) -> list[list[int]]:
    """Clients ask without end; what they asked until the server had written enough, and not all, and was killed."""
    over, texts = Event(), list[list[int]]()

    def client() -> None:
        while not over.is_set():
            texts.append(prompt(next(numbers)))
            try:
                asked(server, texts[-1])
            except httpx.HTTPError:
                assert over.is_set(), "the server failed before it was killed"

    def writing() -> bool:
        there = on_disk(directory)
        return len(there) >= enough and any(there.tokens(text) < hittable(text) for text in list(texts))

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client) for _ in range(4)]
        try:
            wait_for(writing)
        finally:
            over.set()
            kill(server)
        for one in clients:
            one.result()
    return texts


def check_found(server: Server, plain: Server, directory: Path, texts: list[list[int]]) -> None:
    """Of what lies on disk 95 % hit, and the answers are right."""
    there = on_disk(directory)
    persisted = [min(there.tokens(text), hittable(text)) for text in texts]
    found = [asked(server, text) for text in texts]
    assert [answer for answer, _ in found] == [asked(plain, text)[0] for text in texts]
    assert sum(cached for _, cached in found) >= ENOUGH * sum(persisted)
    print(f"{len(texts)} texts, {sum(persisted)} tokens persisted, {sum(cached for _, cached in found)} cached")
