"""What a unit of collector work costs: budgets are such that few pauses take longer than they may."""

from random import Random

import pytest

from infergc.engine.price import UnitPrice


def pause(chance: Random, units: int, stop: float = 0.0) -> float:
    """Microseconds of so many units: about 2 each, and rarely the machine stops for ``stop``."""
    return units * chance.lognormvariate(0.7, 0.25) + (stop if chance.random() < 0.002 else 0.0)


@pytest.mark.parametrize("stop", [0.0, 20_000.0])
def test_one_pause_in_a_hundred_takes_longer_than_it_may(stop: float) -> None:
    price, chance, late = UnitPrice(), Random(0), 0  # noqa: S311 - no secret
    for at in range(30_000):
        budget = price.units(200.0)
        took = pause(chance, budget, stop)
        late += took > 200.0 and at >= 10_000
        price.learn(budget, budget, took)
    assert 0.005 < late / 20_000 < 0.015
    assert price.units(200.0) > 40, "a machine that stops now and then does not make units dear"


def test_a_pause_that_ended_early_shows_little_unless_it_was_too_long() -> None:
    price = UnitPrice()
    budget = price.units(50.0)
    before = price.micros
    price.learn(budget, 1, 20.0)
    assert before * 0.9999 < price.micros <= before
    price.learn(budget, 1, 60.0)
    assert price.micros > before


def test_a_slice_over_the_budget_is_measured_by_what_it_did() -> None:
    price = UnitPrice()
    before = price.micros
    price.learn(20, 60, 50.0)
    assert price.micros < before
    price.learn(20, 60, 70.0)
    assert price.micros > before


def test_budgets_never_shrink_to_nothing() -> None:
    price = UnitPrice()
    for _ in range(500):
        price.learn(16, 16, 1e6)
    assert price.units(50.0) == 16


def test_small_pauses_with_a_halt_now_and_then_do_not_drive_it_up() -> None:
    """They use an eighth of what they may; one in 200 meets a halt of the machine."""
    price = UnitPrice()
    for number in range(20_000):
        budget = price.units(50.0)
        work = max(1, budget // 8)
        price.learn(budget, work, 1000.0 if number % 200 == 0 else work * 0.9)
    assert price.micros < 8
