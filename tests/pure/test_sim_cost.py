"""What steps cost: the roofline's two roofs, the fit, its file, and the executor that keeps the time."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infergc.config import ConfigError
from infergc.heap.groups import GroupSpec
from infergc.heap.moves import Move
from infergc.sched.plan import StepPlan
from infergc.sim.calibration import (
    KNOTS,
    TERMS,
    CalibratedCost,
    Calibration,
    HeldOut,
    fit,
    read_calibration,
    relative_errors,
    units_of,
)
from infergc.sim.catalog import geometry_named
from infergc.sim.cost import CostModel, FixedCost, Roofline
from infergc.sim.devices import DEVICES, device_named
from infergc.sim.executor import STEP_SECONDS, SimExecutor
from infergc.sim.geometry import Geometry
from infergc.sim.least_squares import least_squares
from infergc.sim.targets import cost_on, is_calibration
from infergc.sim.work import StepWork, work_of
from samples.step_plans import decodes, step_plan

LLAMA = geometry_named("llama-3-8b")
A100 = device_named("a100-80g")
IDEAL = replace(A100, product_share=1.0, attention_share=1.0, bandwidth_share=1.0, layer_seconds=0.0)
SMALL = Geometry("small", 4, 64, 4, 2, 16, 96, 100, 1024)
PLANTED = {name: 10.0 ** -(3 + at % 5) for at, name in enumerate(TERMS)}


def calibration(**changed: Any) -> Calibration:
    fields = {
        "model": SMALL, "digest": "d", "backend": "cpu", "threads": 2, "page_tokens": 16, "machine": "m",
        "software": "0", "date": "2026-01-01", "terms": PLANTED, "held_out": HeldOut(steps=9, median=0.1, p90=0.2),
    }  # fmt: skip
    return Calibration(**{**fields, **changed})


@pytest.mark.parametrize("window", [None, 1, 3, 5, 100])
@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 4), (2, 3), (7, 1), (7, 6)])
def test_attention_is_what_each_position_sees(start: int, count: int, window: int | None) -> None:
    positions = range(start, start + count)
    visible = {p: set(range(max(0, p - (window or p + 1) + 1), p + 1)) for p in positions}
    pairs, read = sum(map(len, visible.values())), len(set.union(*visible.values()))
    everything = sum(range(start + 1, start + count + 1))
    work = work_of(step_plan([(start, count, True)]), ((window, 1), (None, 2)))
    if count > 1:
        assert (work.chunk_pairs, work.chunk_positions) == (pairs + 2 * everything, read + 2 * (start + count))
        assert work.decode_positions == 0
    else:
        assert (work.chunk_pairs, work.chunk_positions) == (0, 0)
        assert work.decode_positions == pairs + 2 * everything


def test_rows_are_counted_apart() -> None:
    work = work_of(step_plan([(0, 5, False), (9, 1, True), (3, 2, True)]), ((None, 1),))
    assert (work.tokens, work.rows, work.sampled) == (8, 3, 2)
    assert (work.chunk_pairs, work.chunk_positions, work.decode_positions) == (15 + 9, 5 + 5, 10)


def test_a_decode_takes_as_long_as_reading_the_weights() -> None:
    weights = (LLAMA.layer_matrix + LLAMA.head_matrix) * 2 / 2039e9
    kv = LLAMA.kv_bytes_per_token / 2039e9
    assert Roofline(LLAMA, IDEAL).seconds(decodes(1, 999)) == pytest.approx(weights + 1001 * kv)
    eight = Roofline(LLAMA, IDEAL).seconds(decodes(8, 999))
    assert eight == pytest.approx(weights + 8 * 1001 * kv), "weights are read once for all rows"


def test_a_large_prefill_takes_as_long_as_computing() -> None:
    tokens, kv = 8192, LLAMA.kv_bytes_per_token / 2039e9
    products = 2 * LLAMA.layer_matrix * tokens / 312e12
    attention = LLAMA.layers * 4 * LLAMA.q_width * (tokens * (tokens + 1) / 2) / 312e12
    head = LLAMA.head_matrix * 2 / 2039e9
    found = Roofline(LLAMA, IDEAL).seconds(step_plan([(0, tokens, True)]))
    assert found == pytest.approx(products + attention + head + tokens * kv)
    without = Roofline(LLAMA, IDEAL).seconds(step_plan([(0, tokens, False)]))
    assert without == pytest.approx(found - head), "the output matrix is for sampled rows"


def test_a_published_decode_is_met() -> None:
    """gpt-fast: Llama-2-7B at batch 1 on an A100-80GB, 104.9 tokens a second (five tokens of prompt)."""
    seconds = Roofline(geometry_named("llama-2-7b"), A100).seconds(decodes(1, 100))
    assert 1 / seconds == pytest.approx(104.9, rel=0.02)


@pytest.mark.parametrize("name", [*DEVICES, "measured"])
def test_more_work_never_takes_less(name: str) -> None:
    cost: CostModel = CalibratedCost(PLANTED, SMALL) if name == "measured" else Roofline(LLAMA, DEVICES[name])
    for batch in (1, 8, 64, 512):
        assert cost.seconds(decodes(batch, 500)) <= cost.seconds(decodes(batch + 1, 500))
        assert cost.seconds(decodes(batch, 500)) < cost.seconds(decodes(batch, 501))
        fewer, more = step_plan([(64, batch + 1, True)]), step_plan([(64, batch + 2, True)])
        assert cost.seconds(fewer) < cost.seconds(more)
    assert cost.seconds(decodes(1, 1)) > 0


def test_units_cut_the_tokens_at_the_knots() -> None:
    units = dict(zip(TERMS, units_of(StepWork(300, 2, 0, 5, 6, 7)), strict=True))
    pieces = [high - low for low, high in zip(KNOTS, (*KNOTS[1:], 300), strict=True)]
    assert [units[f"token_over_{knot}"] for knot in KNOTS] == pieces
    assert (units["step"], units["sampled_row"], units["row"]) == (1, 0, 2)
    assert (units["chunk_pair"], units["chunk_position"], units["decode_position"]) == (5, 6, 7)
    one = dict(zip(TERMS, units_of(StepWork(1, 1, 1)), strict=True))
    assert [one[f"token_over_{knot}"] for knot in KNOTS] == [0] * len(KNOTS)
    assert one["sampled_row"] == 1


def some_work(draw: np.random.Generator) -> StepWork:
    """Prompts and decodes in all proportions, each independent of the others."""
    chunks, rows, tokens = int(draw.integers(0, 3)), int(draw.integers(1, 64)), int(2 ** draw.uniform(1, 9))
    return StepWork(
        tokens=rows + chunks * tokens,
        rows=rows + chunks,
        sampled=int(draw.integers(0, rows + 1)),
        chunk_pairs=chunks * tokens * int(draw.integers(1, 999)),
        chunk_positions=chunks * int(draw.integers(1, 4000)),
        decode_positions=int(draw.integers(1, 30_000)),
    )


def test_a_fit_recovers_planted_costs_from_noisy_times() -> None:
    draw = np.random.default_rng(5)
    works = [some_work(draw) for _ in range(4000)]
    costs = (2e-2, 1e-3, 2e-3, 1.5e-3, 1.2e-3, 1e-3, 8e-4, 1e-3, 2e-7, 2e-5, 3e-6)
    planted = dict(zip(TERMS, costs, strict=True))
    exact = CalibratedCost(planted, SMALL)
    seconds = [exact.of(work) * draw.uniform(0.9, 1.1) for work in works]
    found = fit(works, seconds)
    assert np.median(relative_errors(CalibratedCost(found, SMALL), works, seconds)) < 0.06
    for name in ("token_over_64", "token_over_256", "row", "chunk_pair", "chunk_position", "decode_position"):
        assert found[name] == pytest.approx(planted[name], rel=0.2), name


def test_no_coefficient_falls_below_zero() -> None:
    draw = np.random.default_rng(3)
    terms = draw.normal(size=(60, 8))
    values = terms @ np.array([1.0, -2.0, 0.0, 3.0, -0.5, 0.0, 2.0, -1.0]) + draw.normal(size=60) * 0.1
    found = least_squares(terms, values)
    gradient = terms.T @ (values - terms @ found)
    assert found.min() >= 0
    assert np.abs(gradient[found > 0]).max() < 1e-6, "those above zero cannot be bettered"
    assert gradient[found == 0].max() < 1e-6, "nor can the others, but for going below it"
    assert (found > 0).any()
    assert (found == 0).any()


def test_least_squares_takes_columns_that_are_empty_or_alike() -> None:
    column = np.arange(1.0, 9.0)
    found = least_squares(np.stack([column, np.zeros(8), column * 1e6, -column], axis=1), 3 * column)
    assert found[1] == found[3] == 0
    assert column * found[0] + column * 1e6 * found[2] == pytest.approx(3 * column)
    assert not least_squares(np.ones((4, 2)), -np.ones(4)).any()


def test_a_calibration_is_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    file.write_text(calibration().model_dump_json())
    assert read_calibration(file) == calibration()
    assert is_calibration(str(file))
    plan = step_plan([(0, 40, True), (100, 1, True)])
    cost = cost_on(str(file), SMALL)
    assert cost.seconds(plan) == CalibratedCost(PLANTED, SMALL).seconds(plan)
    assert isinstance(cost_on("h100-80g", SMALL), Roofline)


def test_a_calibration_is_for_the_shape_that_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    file.write_text(calibration().model_dump_json())
    assert cost_on(str(file), replace(SMALL, name="other", max_len=99, eos_ids=(3,)))
    with pytest.raises(ConfigError, match=r"measured with small, .* --model small \(layers 4 there, 5 here; dtype bf"):
        cost_on(str(file), replace(SMALL, layers=5, dtype="float32"))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("terms", "row"), -1.0, "terms.row: "),
        (("terms", "row"), "much", 'terms.row: takes a number, not "much"'),
        (("terms", "luck"), 1.0, "terms: luck is missing or unknown; there are step, "),
        (("held_out", "median"), None, "held_out.median: takes a number, not null"),
        (("model", "layers"), "x", 'model.layers: takes an integer, not "x"'),
        (("format",), 2, "format: 2 is not one of 1"),
        (("color",), "red", "color: "),
    ],
)
def test_a_bad_calibration_names_its_field(tmp_path: Path, path: tuple[str, ...], value: Any, message: str) -> None:
    fields = json.loads(calibration().model_dump_json())
    at = fields
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    file = tmp_path / "cpu.json"
    file.write_text(json.dumps(fields))
    with pytest.raises(ConfigError) as error:
        cost_on(str(file), SMALL)
    assert str(error.value).startswith(f"--device: {file}: {message}")


def test_a_calibration_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cpu.json").write_text("{")
    for file in (tmp_path / "cpu.json", tmp_path / "none.json"):
        with pytest.raises(ConfigError, match=f"--device: {file} is not a readable JSON object"):
            cost_on(str(file), SMALL)
    (tmp_path / "cpu.json").write_text("[]")
    with pytest.raises(ConfigError, match="takes an object"):
        cost_on(str(tmp_path / "cpu.json"), SMALL)


@pytest.mark.parametrize("cost", [None, FixedCost(0.5), Roofline(SMALL, A100)])
def test_the_simulated_clock_goes_by_the_cost(cost: CostModel | None) -> None:
    executor = SimExecutor(SMALL.facts(16), cost=cost)
    executor.allocate((), 64)
    plans: list[StepPlan] = [step_plan([(0, 40, True)]), decodes(3, 40)]
    expected = [STEP_SECONDS if cost is None else cost.seconds(plan) for plan in plans]
    outcomes = [executor.launch(plan).result() for plan in plans]
    assert [outcome.seconds for outcome in outcomes] == expected
    assert executor.seconds == pytest.approx(sum(expected))
    replay = SimExecutor(SMALL.facts(16), outcomes, cost)
    assert [replay.launch(plan).result() for plan in plans] == outcomes
    assert replay.seconds == executor.seconds


# ---- copies between device and host


class LinkedCost(FixedCost):
    def copying(self, size: int) -> float:
        return size / 1000


def copies(pages: int) -> StepPlan:
    """A step that copies so many pages of both groups out, and one in."""
    moves = [Move("store", group, 0, 0, 16, pages - 1) for group in (0, 1)]
    moves += [Move("load", group, 9, 9, 16, 1) for group in (0, 1)]
    return replace(decodes(1, 40), moves=(*moves, Move("copy", 0, 1, 2, 16)))


def copying() -> SimExecutor:
    executor = SimExecutor(SMALL.facts(16), cost=LinkedCost(0.5))
    executor.allocate((GroupSpec("full", 100, capacity=20), GroupSpec("window", 50, 32, 20)), 64)
    return executor


def test_copies_are_waited_for_where_nothing_computes_meanwhile() -> None:
    executor = copying()
    for _ in range(2):
        outcome = executor.launch(copies(4)).result()
        assert (outcome.copied_bytes, outcome.copy_seconds) == (600, 0.6)
        assert outcome.seconds == pytest.approx(0.5 + 0.6)


@pytest.mark.parametrize(("pages", "left"), [(2, 0.0), (3, 0.0), (4, 0.1), (8, 0.7)])
def test_the_step_before_hides_copies_as_long_as_it_computes(pages: int, left: float) -> None:
    executor = copying()
    before = executor.launch(decodes(1, 40))
    behind = executor.launch(copies(pages))
    assert before.result().seconds == 0.5
    assert behind.result().seconds == pytest.approx(0.5 + left)
    assert behind.result().copy_seconds == pytest.approx(pages * 0.15)


def test_a_device_copies_as_fast_as_its_link() -> None:
    assert Roofline(SMALL, A100).copying(10**9) == pytest.approx(1 / 24.8)
    assert Roofline(SMALL, device_named("h100-80g")).copying(10**9) == pytest.approx(1 / 49.6)
    assert CalibratedCost(PLANTED, SMALL).copying(5 * 10**9) == 1.0
