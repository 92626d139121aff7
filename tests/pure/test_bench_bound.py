"""The least time of a run: products by rows, attention by what each token sees."""

import pytest

from infergc.bench.bound import MOST_SIZES, Bound, bound, row_counts
from infergc.bench.rounds import Round
from infergc.bench.throughput import Report, Split
from infergc.bench.workload import Load
from infergc.engine.rates import AttentionCost, MachineRates
from samples.step_plans import step_plan


def rates(windows: tuple[int | None, ...] = (None,)) -> MachineRates:
    return MachineRates(
        layers={1: 2.0, 3: 4.0},
        head={1: 0.5, 2: 0.7},
        packing={},
        matrix_flops=100.0,
        read_bytes=10.0,
        weight_bytes=1,
        attention=AttentionCost(pair_flops=5, position_bytes=2, windows=windows),
    )


def test_products_count_every_token_and_the_head_only_what_is_sampled() -> None:
    found = bound([step_plan([(0, 2, False), (4, 1, True)]), step_plan([(0, 1, False)])], rates())
    assert found.layers == pytest.approx(4.0 + 2.0)
    assert found.head == pytest.approx(0.5)
    assert found.products == found.layers + found.head


def test_between_measured_rows_time_is_interpolated() -> None:
    assert bound([step_plan([(0, 2, True)])], rates()).layers == pytest.approx(3.0)


def test_prefill_runs_at_the_matrix_rate_and_decode_at_the_read_rate() -> None:
    found = bound([step_plan([(0, 2, False), (4, 1, True)])], rates())
    assert found.prefill == pytest.approx(3 * 5 / 100)
    assert found.decode == pytest.approx(5 * 2 / 10)
    assert found.with_attention == pytest.approx(found.products + found.prefill + found.decode)


def test_not_every_size_is_measured() -> None:
    assert row_counts([3, 1, 3, 0]) == [1, 3]
    picked = row_counts(range(1, 500))
    assert len(picked) == MOST_SIZES
    assert (picked[0], picked[-1]) == (1, 499)


@pytest.mark.parametrize(
    ("products", "clocked", "attention", "sound"),
    [
        (1.04, 0.0, 0.0, True),
        (1.06, 0.0, 0.0, False),
        (1.06, 1.02, 0.0, True),
        (0.9, 0.0, 1.0, True),
        (0.9, 0.0, 1.2, False),
    ],
)
def test_a_bound_longer_than_what_it_bounds_is_not_sound(
    products: float, clocked: float, attention: float, sound: bool
) -> None:
    """The round took 2 s, of them 1 s for products."""
    report = Report(
        Load(1, 1, 1), "float32", "cpu", 1, [Round(seconds=2.0)], 1,
        bound=Bound(products - 0.5, 0.5, attention, 0.0), split=Split(1.0, 0.25, 0.25, 0.25, 0.25),
        clocked_products=clocked,
    )  # fmt: skip
    assert report.has_sound_bound == sound
