"""Options of the test suite, and what hypothesis does in all of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from samples.lengths import LONG, SHORT, at_length

# A busy machine is no fault of the code: no example is too slow. And a check that gates gives one answer to one tree.
for profile in (SHORT, LONG):
    settings.register_profile(profile, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(SHORT)

# Where there is no GPU, Triton's kernels are interpreted; Triton asks as soon as anything imports it, as torch may.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Threads that spin while they wait take the cores from the other processes of tests and their servers: OpenMP's sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="every test at its full size: an hour on two cores")
    parser.addoption(
        "--heap-ops",
        type=int,
        default=20_000,
        help="checked operations of the random walks over the heap, all shapes together (default 20000)",
    )
    parser.addoption(
        "--traces",
        default=None,
        metavar="DIR",
        help="directory with request traces; tests that replay them are skipped without it (or INFERGC_TRACES)",
    )
    parser.addoption(
        "--requests",
        type=int,
        default=1000,
        help="requests to running engines whose clients leave at random, in each such test (default 1000)",
    )
    parser.addoption(
        "--fault-points",
        type=int,
        help="points of an engine's iterations at which memory is refused, in each setting (default 4, long 8)",
    )
    parser.addoption(
        "--soak",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long a server is soaked under load and faults; each fault is tried once anyway (default 60)",
    )
    parser.addoption(
        "--write-golden", action="store_true", help="record the counters of tests/golden anew instead of comparing"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Say how long the suite runs (see samples/lengths.py), and so what the options are that were not given."""
    settings.load_profile(LONG if config.option.long else SHORT)
    if config.option.fault_points is None:
        config.option.fault_points = at_length(4, 8)


@pytest.fixture(scope="session")
def traces_folder(request: pytest.FixtureRequest) -> Path:
    """Where recorded traces and texts lie, if they do: as told, or in ``shared/traces`` beside the project."""
    beside = Path(__file__).parents[2] / "shared" / "traces"
    return Path(request.config.getoption("--traces") or os.environ.get("INFERGC_TRACES") or beside)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Spare torch the hand-over between threads: those that wait by spinning are many times slower on busy cores."""
    import torch  # noqa: PLC0415 - most tests do without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
