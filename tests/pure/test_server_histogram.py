"""The server's own histogram shows what prometheus_client's would."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from infergc.server.metrics.histogram import Distribution

BOUNDS = (0.1, 0.5, 1.0, 2.5)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 2.5, 3.0]), st.integers(1, 5)), max_size=30)
)
def test_it_shows_what_the_librarys_would(values: list[tuple[float, int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Distribution("a_seconds", "Help.", BOUNDS, {"model": "m"})
    ours.register(mine)
    other = Histogram("a_seconds", "Help.", ("model",), buckets=BOUNDS, registry=theirs).labels("m")
    for value, times in values:
        mine.observe(value, times)
        for _ in range(times):
            other.observe(value)
    assert samples(ours) == samples(theirs)


def samples(registry: CollectorRegistry) -> dict[str, float]:
    lines = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    found = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}
    return {name: round(value, 6) for name, value in found.items()}
