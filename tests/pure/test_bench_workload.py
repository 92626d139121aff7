"""The load of a throughput run: equal work for every engine, new in every round."""

import hashlib
import json
import random

import pytest

from infergc.bench.workload import Load, digest, parse_load


def test_prompts_depend_on_seed_round_and_sizes_alone() -> None:
    load = Load(3, 5, 2, seed=7)
    assert load.prompts(1, 100) == Load(3, 5, 9, seed=7).prompts(1, 100)
    assert load.prompts(1, 100) != load.prompts(2, 100)
    assert load.prompts(1, 100) != Load(3, 5, 2, seed=8).prompts(1, 100)
    assert [len(prompt) for prompt in load.prompts(1, 100)] == [5, 5, 5]
    ids = {token for prompt in Load(50, 50, 1).prompts(0, 30) for token in prompt}
    assert ids == set(range(10, 30))


def test_prompts_are_those_that_peers_were_measured_with() -> None:
    """Drawn request by request from one stream: another engine's runner gets the same from the same words."""
    draw = random.Random("peers-3-2")  # noqa: S311 - repeatable, not secret
    expected = [[draw.randrange(10, 8192) for _ in range(4)] for _ in range(2)]
    assert Load(2, 4, 1, seed=3).prompts(2, 8192) == expected
    assert Load(2, 3, 1).prompts(0, 8192) == [[7063, 8162, 1146], [3867, 3497, 7153]]


def test_digest_names_the_outputs() -> None:
    outputs = [[1, 2], [3]]
    assert digest(outputs) == hashlib.sha256(json.dumps(outputs).encode()).hexdigest()[:12]
    assert digest(outputs) == digest([(1, 2), (3,)]) != digest([[1, 2], [4]])


def test_a_load_is_read_and_counted() -> None:
    load = parse_load("32x256x128", seed=4)
    assert (load, str(load)) == (Load(32, 256, 128, 4), "32x256x128")
    assert (load.generated, load.tokens) == (4096, 12288)


@pytest.mark.parametrize("text", ["", "32x256", "ax1x1", "1x1x1x1", "32 256 128", "0x1x1", "1x0x1", "1x1x00"])
def test_what_is_no_load_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write requests, input and output lengths, each at least 1, as 32x256x128"):
        parse_load(text)


def test_sizes_below_one_are_refused_by_flag() -> None:
    for sizes, flag in (((0, 1, 1), "--requests"), ((1, 0, 1), "--input-len"), ((1, 1, 0), "--output-len")):
        with pytest.raises(ValueError, match=f"{flag}: 0 is less than 1"):
            Load(*sizes)
    with pytest.raises(ValueError, match="--model: a vocabulary of 10"):
        Load(1, 1, 1).prompts(0, 10)
