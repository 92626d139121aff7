"""The parts of benchmarks/gpu.py: bars, time, stand-ins, loads, buffers, contests."""

import json
import sys
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
import torch

from infergc.bench.gpu import stand_ins
from infergc.bench.gpu.campaign import INTERRUPTED, Done, Interrupt, Planned, run_all, run_one
from infergc.bench.gpu.figure import NO_TIME, REST, Figure, left_out, of_rounds
from infergc.bench.gpu.record import Record
from infergc.bench.gpu.section import Setting
from infergc.bench.scenarios.allocators import Doubling, Reserved
from infergc.bench.workload import Load

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # which is no package

from gpu_sections import flashinfer
from gpu_sections.attention import Load as Rows
from gpu_sections.backends import Candidate
from gpu_sections.checks import CLOSE, Differs, begun, checked, difference
from gpu_sections.contest import Contest
from gpu_sections.driver import HostMemory
from gpu_sections.loads import load_of, prompts_of
from gpu_sections.models import GEOMETRIES, geometry, kv_bytes_per_token, model_directory
from gpu_sections.overhead import StepTimes, covered, host, kernel_seconds
from gpu_sections.paged import Paged
from gpu_sections.scenarios import Mirrored
from gpu_sections.throughput import contestant

from infergc.kernels.api import AttentionNeeds
from infergc.kernels.reference import ReferenceAttention
from infergc.models.weights import nbytes


def setting(folder: Path, **given: object) -> Setting:
    return Setting(**{"device": "cpu", "quick": True, "scratch": folder, "ends": time.monotonic() + 60, **given})


def told(figure: dict) -> str:
    return f"import json, sys; sys.stdout.write(json.dumps({{'figure': {figure!r}}}) + chr(10)); sys.stdout.flush();"


PLAIN = {"what": "one", "value": 2.0, "rounds": [1.0, 2.0, 3.0]}


@pytest.mark.parametrize(
    ("figure", "met", "words"),
    [
        (Figure("x", 80.0, "%", bar=80.0), True, "met"),
        (Figure("x", 79.9, "%", bar=80.0, note="of copy"), False, "missed; of copy"),
        (Figure("x", 5.0, "%", bar=5.0, at_most=True), True, "met"),
        (Figure("x", 5.1, "%", bar=5.0, at_most=True), False, "missed"),
        (Figure("x", 5.1, "%", note="as it is"), None, "as it is"),
        (Figure("x", bar=5.0, skipped="no GPU"), None, "skipped: no GPU"),
        (Figure("x", bar=5.0, failed="OSError: no"), None, "did not run: OSError: no"),
        (Figure("x", 9.0, bar=5.0, wrong="row 1"), True, "DIFFERS: row 1"),
    ],
)
def test_bars_are_held_against_figures_that_mean_something(figure: Figure, met: bool | None, words: str) -> None:
    assert figure.met is met
    assert figure.verdict(judged=True) == words
    assert figure.plain(judged=True)["met"] is met
    assert figure.plain(judged=False)["met"] is None


def test_the_figure_is_the_median_of_its_rounds() -> None:
    figure = of_rounds("x", [3.0, 1.0, 9.0], "ms")
    assert (figure.value, figure.rounds) == (3.0, (3.0, 1.0, 9.0))


def test_a_run_is_wrong_if_a_kernel_differs_and_not_if_a_bar_is_missed() -> None:
    missed = Done("a", figures=[Figure("x", 1.0, bar=2.0), left_out("y", "no GPU"), Figure("w", failed="memory")])
    assert not Record({"date": "2026-01-01 00:00 UTC"}, True, [missed]).wrong
    missed.figures.append(Figure("z", wrong="by 3"))
    assert Record({"date": "2026-01-01 00:00 UTC"}, True, [missed]).wrong


def test_the_exit_status_says_how_it_went() -> None:
    def status(*done: Done) -> int:
        return Record({"date": "2026-01-01 00:00 UTC"}, True, done).status

    failed = [Figure("attention, triton", failed="no compiler")]
    assert status(Done("engine-1b", figures=failed)) == 0, "a peer, say"
    assert status(Done("checks", figures=failed)) == 1
    assert status(Done("checks", figures=[Figure("dense work", 3.0), left_out("attention, triton", NO_TIME)])) == 1
    assert status(Done("checks", figures=[left_out("attention, triton", "triton is not installed")])) == 0
    assert status(Done("transfers", figures=[left_out("all", NO_TIME)])) == 0
    assert status(Done("transfers", figures=[Figure(REST, failed="its process ended with status -9")])) == 1
    assert status(Done("checks", ends_all="finds no NVIDIA GPU here")) == 1
    assert status(Done("checks"), Done("attention", ends_all=INTERRUPTED)) == 130


def test_an_interrupt_where_no_process_runs_is_told_too() -> None:
    interrupt = Interrupt()

    def told(_: list[Done]) -> None:
        interrupt.asked = True

    def command(section: Planned, seconds: float) -> list[str]:
        assert section.name == "a", "nothing is begun after it"
        return [sys.executable, "-c", "pass"]

    done = run_all([Planned(name, "", 1) for name in "abc"], 40.0, command, told, interrupt)
    assert [[figure.skipped for figure in each.figures] for each in done] == [[], [INTERRUPTED], [INTERRUPTED]]


def test_an_interrupt_ends_the_section_that_runs() -> None:
    began = time.monotonic()
    done = run_one("a", [sys.executable, "-c", "import time; time.sleep(60)"], 50.0, Interrupt(asked=True))
    assert time.monotonic() - began < 20
    assert (done.ends_all, done.figures[0].skipped) == (INTERRUPTED, INTERRUPTED)


def test_a_section_that_hangs_is_ended_and_keeps_its_figures() -> None:
    began = time.monotonic()
    done = run_one("a", [sys.executable, "-c", told(PLAIN) + "import time; time.sleep(60)"], 3.0, Interrupt())
    assert time.monotonic() - began < 20
    assert [figure.what for figure in done.figures] == ["one", "the rest"]
    assert done.figures[0].rounds == (1.0, 2.0, 3.0)
    assert done.figures[1].skipped.startswith("stopped after")


def test_what_a_hanging_section_started_is_ended_with_it(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    inner = f"import time, pathlib\nfor _ in range(100): pathlib.Path({str(file)!r}).touch(); time.sleep(0.1)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    run_one("a", [sys.executable, "-c", outer], 2.0, Interrupt())
    file.unlink()
    time.sleep(0.5)
    assert not file.exists()


def test_a_section_that_dies_says_how_and_shows_its_log() -> None:
    dying = told(PLAIN) + "sys.stderr.write('the last words'); sys.exit(7)"
    done = run_one("a", [sys.executable, "-c", dying], 30.0, Interrupt())
    assert [figure.failed for figure in done.figures] == ["", "its process ended with status 7"]
    assert done.log == "the last words"


def test_time_that_is_left_goes_to_the_sections_after() -> None:
    given = dict[str, float]()

    def command(section: Planned, seconds: float) -> list[str]:
        given[section.name] = seconds
        return [sys.executable, "-c", "pass"]

    reports = list[int]()
    planned = [Planned("a", "", 1), Planned("b", "", 1), Planned("c", "", 2)]
    done = run_all(planned, 40.0, command, lambda so_far: reports.append(len(so_far)), Interrupt())
    assert [each.name for each in done] == ["a", "b", "c"]
    assert reports == [1, 2, 3]
    assert given["a"] == pytest.approx(10, abs=0.5)
    assert given["b"] == pytest.approx(13.3, abs=1)
    assert given["c"] == pytest.approx(40, abs=3)


def test_what_time_there_is_goes_to_the_first() -> None:
    planned = [Planned("a", "", 1), Planned("b", "", 9)]
    done = run_all(planned, 6.0, lambda *_: [sys.executable, "-c", "import time; time.sleep(2)"], len, Interrupt())
    assert [[figure.skipped for figure in each.figures] for each in done] == [[], [NO_TIME]]


def test_an_absent_package_names_itself_where_it_is_used() -> None:
    (module, _) = stand_ins._llguidance()
    made = module.LLTokenizer("anything")
    with pytest.raises(ModuleNotFoundError, match="llguidance is not installed") as caught:
        made.encode("text")
    assert caught.value.name == "llguidance"
    assert stand_ins.install() == []  # all are here, and nothing is replaced


def test_messages_without_msgspec_share_no_defaults() -> None:
    class News(stand_ins._Struct, tag="news", array_like=True):
        name: str
        tokens: list[int] = []  # noqa: RUF012 - as messages have it

    first, second = News("a"), News("b")
    first.tokens.append(1)
    assert (first.tokens, second.tokens, second) == ([1], [], News("b"))


def test_settings_without_pydantic_are_taken_as_given_and_unknown_ones_refused() -> None:
    class Settings(stand_ins._BaseModel):
        size: int = stand_ins._Field(3, ge=1)
        name: str = stand_ins._Field(description="of it")

    made = Settings(name="x")
    assert made.model_copy(update={"size": 5}).model_dump() == {"size": 5, "name": "x"}
    assert made.size == 3
    with pytest.raises(ValueError, match="name: is required"):
        Settings()
    with pytest.raises(ValueError, match="colour: no such setting"):
        Settings(name="x", colour=1)


def test_what_differs_is_seen() -> None:
    right = torch.randn(8, 8)
    assert difference(right.clone(), right, CLOSE) == ""
    wrong = right.clone()
    wrong[3, 4] += 1
    assert "Mismatched elements: 1 / 64" in difference(wrong, right, CLOSE)
    wrong[3, 4] = float("nan")
    assert difference(wrong, right, CLOSE)


def test_what_does_not_run_is_no_difference_and_other_cases_are_checked(tmp_path: Path) -> None:
    def fails() -> str:
        raise torch.OutOfMemoryError("no room")

    cases = [("a", fails), ("b", lambda: ""), ("c", lambda: "by 3")]
    figure = checked("all", iter(cases[:2]), setting(tmp_path))
    assert (figure.value, figure.wrong) == (1, "")
    assert figure.failed == "a: OutOfMemoryError: no room; 1 of 2 cases did not"
    assert checked("all", iter(cases), setting(tmp_path)).wrong == "c: by 3; 1 of 3 cases differ"


def test_nothing_begins_when_time_is_over_and_no_case_is_no_success(tmp_path: Path) -> None:
    over = setting(tmp_path, ends=time.monotonic())
    assert begun("a", lambda: pytest.fail("it began"), over) == left_out("a", NO_TIME)
    assert checked("all", iter([("a", lambda: "")]), over) == left_out("all", NO_TIME)
    missing = ModuleNotFoundError("no", name="triton")

    def cases() -> Iterator[tuple[str, Differs]]:
        raise missing
        yield

    assert begun("all", lambda: checked("all", cases(), setting(tmp_path)), setting(tmp_path)).skipped == (
        "triton is not installed"
    )


def test_flashinfers_section_builds_checks_and_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Candidate("flashinfer", "", ReferenceAttention)  # in its place: there is no GPU here
    monkeypatch.setattr(flashinfer, "candidate", lambda _: reference)
    figures = {figure.what: figure for figure in flashinfer.measure(setting(tmp_path))}
    assert figures["build, flashinfer"].value
    assert (figures["attention, flashinfer"].value, figures["attention, flashinfer"].wrong) == (1, "")
    assert figures["decode, 2 of 40, flashinfer"].value
    assert figures["prefill, 1 of 48, flashinfer"].bar == 60


class Unbuilt(ReferenceAttention):
    """Cannot be made."""

    def __init__(self, *_: object) -> None:
        raise FileNotFoundError("no such file: 'ninja'")


def test_what_cannot_be_built_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flashinfer, "candidate", lambda name: Candidate(name, "", Unbuilt))
    for tool in ("nvcc", "ninja"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (figure,) = flashinfer.measure(setting(tmp_path))
    assert (figure.failed, figure.wrong) == ("FileNotFoundError: no such file: 'ninja'", "")
    (tmp_path / "ninja").unlink()
    (figure,) = flashinfer.measure(setting(tmp_path))
    assert figure.skipped.startswith("ninja is not installed, and it had to compile (FileNotFoundError: ")
    assert not figure.failed


def test_the_hosts_share_is_told_of_each_round() -> None:
    class Rounds:
        """A step takes one millisecond more in each round of long outputs; half of one is kernels'."""

        step = 0.0

        def seconds(self, count: int) -> float:
            self.step += 1e-3 * (count == 20)
            return count * self.step

        def kernels(self, count: int) -> float:
            return count * 0.5e-3

    (figure,) = host(Rounds(), StepTimes(), 4, (10, 20), on_gpu=True)
    assert figure.rounds == pytest.approx([50, 75, 83.33, 87.5, 90], abs=0.01)


def test_ours_finds_no_prompt_in_a_cache_and_has_room_for_the_largest_load(tmp_path: Path) -> None:
    loads = [Load(8, 60, 20), Load(2, 60, 20)]
    ours = contestant(model_directory("1b", setting(tmp_path)), setting(tmp_path), loads)
    for load in (*loads, loads[0]):
        ours.generate(load.prompts(0, ours.engine.ready.vocab_size), load.output_len)
    counters = ours.engine.scheduler.counters
    ours.close()
    assert (counters.prefix_hits, counters.preemptions) == (0, 0)


def test_bytes_and_operations_of_attention() -> None:
    needs = AttentionNeeds("cpu", torch.bfloat16, 32, 8, 128, 16)
    assert Rows(64, 4096, 1).bytes_of(needs) == 64 * 4096 * 2 * 8 * 128 * 2
    square = 2 * 2 * 32 * 128 * 8192**2 / 2
    assert Rows(1, 8192, 8192).operations_of(needs) == pytest.approx(square, rel=2e-4)


def test_rows_lie_in_extents_that_nobody_shares() -> None:
    needs = AttentionNeeds("cpu", torch.float32, 2, 1, 16, 16)
    pages = Paged(needs, 3 * (300 + 256))
    table = pages.layout(3, 300, 1).table
    spelled = [
        page
        for row in range(3)
        for first, count in zip(table.first[row], table.pages[row], strict=True)
        for page in range(first, first + count)
    ]
    assert len(set(spelled)) == len(spelled) == 3 * 19
    assert max(spelled) < len(pages.k_NGPD)


def test_intervals_are_counted_once() -> None:
    assert covered([(5.0, 7.0), (0.0, 2.0), (1.0, 3.0), (6.0, 6.5)]) == 5.0
    assert covered([]) == 0.0


def test_only_what_the_device_ran_counts_as_kernels() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.ones(64, 64) @ torch.ones(64, 64)
    events = list(profile.events())
    assert events
    with pytest.raises(RuntimeError, match="no kernels"):
        kernel_seconds(events)
    for event in events:
        event.device_type = torch.autograd.DeviceType.CUDA
    first, last = min(e.time_range.start for e in events), max(e.time_range.end for e in events)
    assert 0 < kernel_seconds(events) <= (last - first) / 1e6


def test_buffers_are_taken_as_the_allocator_decides() -> None:
    memory = HostMemory()
    mirrored = Mirrored(Doubling(1024, 256), memory, token_bytes=100)
    assert mirrored.admit(1, 20, 20, 0)
    assert memory.held() == 3200
    assert mirrored.grow(1, 33)
    assert (memory.held(), mirrored.most) == (6400, 9600)  # both stand while one is copied to the other
    assert mirrored.grow(1, 64)
    assert memory.held() == 6400
    mirrored.free(1)
    assert (memory.held(), mirrored.held) == (0, 0)
    full = Mirrored(Reserved(256, 256), memory, token_bytes=10)
    assert full.admit(1, 5, 5, 0)
    assert not full.admit(2, 5, 5, 1)
    assert memory.held() == full.most == 2560
    full.close()
    assert memory.held() == 0


@pytest.mark.parametrize("number", [1, 2, 3])
def test_loads_are_the_same_each_time_and_share_only_the_system_prompt(number: int, tmp_path: Path) -> None:
    load = load_of(number, setting(tmp_path, quick=False))
    assert load == load_of(number, setting(tmp_path, quick=False))
    prompts = prompts_of(load, 128256)
    assert [len(prompt) for prompt in prompts] == [request.input_len for request in load.requests]
    assert min(map(min, prompts)) >= 10
    assert max(map(max, prompts)) < 128256
    alike = (len(set(column)) == 1 for column in zip(*prompts, strict=False))
    shared = sum(takewhile(bool, alike))
    mean = sum(map(len, prompts)) / len(prompts)
    if number == 3:
        assert shared >= 0.55 * mean
    else:
        assert len({tuple(prompt[:4]) for prompt in prompts}) == len(prompts)


@pytest.mark.parametrize(("name", "weights", "token"), [("1b", 2.47e9, 32 * 1024), ("8b", 16.06e9, 128 * 1024)])
def test_models_have_the_geometry_of_their_names(name: str, weights: float, token: int, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GEOMETRIES[name]))
    spec = geometry(tmp_path)
    assert nbytes(spec) == pytest.approx(weights, rel=0.002)
    assert kv_bytes_per_token(spec) == token


def test_a_quick_run_writes_one_tiny_model_once(tmp_path: Path) -> None:
    directory = model_directory("8b", setting(tmp_path))
    assert directory == tmp_path / "tiny"
    index = directory / "model.safetensors.index.json"
    written = index.stat().st_mtime_ns
    assert model_directory("1b", setting(tmp_path)) == directory
    assert index.stat().st_mtime_ns == written
    (directory / "complete").unlink()  # as if the section had been stopped while it wrote
    (directory / "config.json").write_text("{")
    model_directory("1b", setting(tmp_path))
    assert json.loads((directory / "config.json").read_text()) == GEOMETRIES["tiny"]


class Fake:
    """Answers with the first token of each prompt, so often; fails on the second round if told to."""

    words = "by heart"

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.name, self._fails, self.calls, self.forgot = name, fails, 0, 0

    def generate(self, prompts: list[list[int]], count: int) -> list[list[int]]:
        self.calls += 1
        if self._fails and self.calls > 1:
            raise ValueError("no more")
        return [[prompt[0]] * count for prompt in prompts]

    def forget(self) -> None:
        self.forgot += 1


def test_who_fails_in_a_contest_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    ours, good, bad = Fake("ours"), Fake("good"), Fake("bad", fails=True)
    figures = list(Contest(ours, [bad, good], Load(2, 5, 3), 100, setting(tmp_path)).figures(3))
    by_what = {figure.what: figure for figure in figures}
    assert by_what["2x5x3, bad"].failed == "ValueError: no more"
    assert len(by_what["2x5x3, good"].rounds) == len(by_what["2x5x3, ours"].rounds) == 3
    assert by_what["2x5x3, good"].note.endswith("first tokens alike: 100%; by heart")
    assert (ours.calls, good.calls, bad.calls, good.forgot) == (4, 4, 2, 1)


def test_a_contest_without_ours_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no more"):
        list(Contest(Fake("ours", fails=True), [Fake("good")], Load(1, 2, 2), 100, setting(tmp_path)).figures(1))


def test_a_contest_ends_when_its_time_is_over(tmp_path: Path) -> None:
    ours = Fake("ours")
    list(Contest(ours, [], Load(1, 2, 2), 100, setting(tmp_path, ends=time.monotonic())).figures(5))
    assert ours.calls == 2
