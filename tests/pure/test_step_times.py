"""What steps take, as the scheduler learns it from outcomes."""

import random

import numpy as np
import pytest

from infergc.sched.step_times import StepTimes

A, B, C, D = 5e-3, 2e-5, 1e-9, 5e-8  # seconds of a step, a token, a chunk's pair, a decode's read


def took(tokens: int, pairs: int, reads: int) -> float:
    return A + B * tokens + C * pairs + D * reads


def mixed_steps(times: StepTimes, steps: int, noise: float = 0.0, seed: int = 0) -> None:
    """Decodes of some sequences beside a chunk of some depth, as an engine has them."""
    draw = random.Random(seed)  # noqa: S311 - tests repeat
    for _ in range(steps):
        rows, depth = draw.randint(0, 64), draw.randint(16, 4000)
        chunk, start = draw.choice([0, 0, 64, 300, 512]), draw.randint(0, 30_000)
        if not rows and not chunk:
            continue
        pairs, reads = chunk * start + chunk * (chunk + 1) // 2, rows * depth
        seconds = took(rows + chunk, pairs, reads) * (1 + noise * draw.uniform(-1, 1))
        times.learn(rows + chunk, pairs, seconds, reads)


def prefill(start: int, end: int) -> float:
    count = end - start
    return B * count + C * (count * start + count * (count + 1) // 2)


def test_nothing_is_known_before_a_step_has_landed() -> None:
    times = StepTimes()
    times.learn(10, 100, 0.0)  # an executor that does not say
    assert not times.known
    assert times.prefill(0, 4096) == 0.0


@pytest.mark.parametrize(("noise", "within"), [(0.0, 0.02), (0.2, 0.15)])
def test_what_a_prompt_costs_is_learnt_from_mixed_steps(noise: float, within: float) -> None:
    times = StepTimes()
    mixed_steps(times, 1500, noise)
    for start, end in [(0, 2048), (8192, 8704), (28_000, 28_512)]:
        assert times.prefill(start, end) == pytest.approx(prefill(start, end), rel=within)


def test_a_flood_of_decodes_does_not_wash_out_what_a_chunk_costs() -> None:
    times = StepTimes()
    mixed_steps(times, 500)
    before = times.prefill(16_000, 16_512)
    for _ in range(20_000):
        times.learn(64, 0, took(64, 0, 64_000), 64_000)
    assert times.prefill(16_000, 16_512) == pytest.approx(before, rel=0.05)


def test_a_machine_that_slows_down_is_learnt_anew() -> None:
    times = StepTimes()
    mixed_steps(times, 500)
    before = times.prefill(8192, 8704)
    draw = random.Random(1)  # noqa: S311 - tests repeat
    for _ in range(4000):
        tokens, depth = draw.choice([32, 64, 300, 512]), draw.randint(0, 30_000)
        times.learn(tokens, tokens * depth, 3 * took(tokens, tokens * depth, 0))
    assert times.prefill(8192, 8704) > 1.8 * before


def test_one_pause_changes_little() -> None:
    times = StepTimes()
    mixed_steps(times, 1000)
    before = times.prefill(0, 4096)
    for _ in range(64):
        times.learn(512, 512 * 256, 60.0)
        mixed_steps(times, 50, seed=2)
    assert times.prefill(0, 4096) < 4 * before


def test_steps_of_constant_time_make_prompts_free() -> None:
    times = StepTimes()
    for tokens in (1, 5, 64, 512) * 16:
        times.learn(tokens, tokens * 100, 0.01)
    assert times.known
    assert times.prefill(0, 100_000) == pytest.approx(0.0, abs=1e-9)
    assert min(times.coefficients) >= 0.0


def test_rows_of_one_token_are_reads_and_others_are_pairs() -> None:
    by_rows, by_sums = StepTimes(), StepTimes()
    starts, counts = np.array([99, 30_000, 131_000], np.int32), np.array([1, 512, 20_000], np.int32)
    pairs = 512 * 30_000 + 512 * 513 // 2 + 20_000 * 131_000 + 20_000 * 20_001 // 2  # beyond 32 bits
    by_rows.landed(starts, counts, 0.5)
    by_sums.learn(20_513, pairs, 0.5, reads=100)
    by_sums.learn(1, 0, 0.01, reads=100)
    by_rows.landed(starts[:1], counts[:1], 0.01)
    assert by_rows.coefficients == by_sums.coefficients != (0.0, 0.0, 0.0, 0.0)


def test_the_same_steps_teach_the_same() -> None:
    one, other = StepTimes(), StepTimes()
    mixed_steps(one, 300, noise=0.3)
    mixed_steps(other, 300, noise=0.3)
    assert one.coefficients == other.coefficients
