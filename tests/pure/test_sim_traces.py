"""Recorded traces: each format as it is written, and each way in which a file can be wrong."""

import gzip
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infergc.sim.requests import TraceRequest
from infergc.sim.traces import BadRow, TraceError, TraceOptions, lines, read, read_good_rows, read_trace
from infergc.units import ceil_div

MOONCAKE = [
    {"timestamp": 3000, "input_length": 1100, "output_length": 5, "hash_ids": [0, 7, 9]},
    {"timestamp": 3000, "input_length": 512, "output_length": 2, "hash_ids": [0]},
    {"timestamp": 4500, "input_length": 600, "output_length": 1, "hash_ids": [0, 7]},
]
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "trace"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def jsonl(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def row(**changed: Any) -> dict[str, Any]:
    made = {"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2], **changed}
    return {name: value for name, value in made.items() if value is not None}


def test_hash_ids(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path, jsonl(MOONCAKE))) == [
        TraceRequest(0.0, 1100, 5, (0, 1, 2), 512),
        TraceRequest(0.0, 512, 2, (0,), 512),
        TraceRequest(1.5, 600, 1, (0, 1), 512),
    ]


def test_gzip_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    text = jsonl(MOONCAKE)
    plain = read_trace(write(tmp_path, text))
    assert read_trace(str(write(tmp_path, gzip.compress(text.encode())))) == plain
    assert read_trace(write(tmp_path, gzip.compress(text[:50].encode()) + gzip.compress(text[50:].encode()))) == plain


def test_rows_are_sorted_by_time_and_those_of_one_time_stay_in_order(tmp_path: Path) -> None:
    rows = [(30, 4), (10, 3), (30, 2), (10.5, 1)]
    text = jsonl({"timestamp": at, "input_length": size, "output_length": 1} for at, size in rows)
    found = [(request.arrival, request.input_len) for request in read_trace(write(tmp_path, text))]
    assert found == [(0.0, 3), (0.0005, 1), (0.02, 4), (0.02, 2)]


def test_ids_of_any_kind_are_counted_from_zero_by_arrival(tmp_path: Path) -> None:
    rows = [
        row(timestamp=9, input_length=1000, hash_ids=["a", 2**70]),
        row(timestamp=8, input_length=1500, hash_ids=[2**40, "a", "1"]),
        row(timestamp=9, input_length=512, hash_ids=[1]),
    ]
    assert [one.blocks for one in read_trace(write(tmp_path, jsonl(rows)))] == [(0, 1, 2), (1, 3), (4,)]


def test_sessions_are_kept_where_there_are_any(tmp_path: Path) -> None:
    rows = [row(session=0), row(session="late"), row(), row(session=None)]
    assert [one.session for one in read_trace(write(tmp_path, jsonl(rows)))] == ["0", "late", "", ""]


@pytest.mark.parametrize("size", [8, 16, 64, 512, 2048])
def test_the_block_size_is_found_from_the_rows(tmp_path: Path, size: int) -> None:
    lengths = [1, size, size + 1, 5 * size]
    rows = [row(input_length=length, hash_ids=list(range(ceil_div(length, size)))) for length in lengths]
    found = read_trace(write(tmp_path, jsonl(rows)))
    assert {one.block_tokens for one in found} == {size}
    assert [len(one.prompt(3)) for one in found] == lengths


def test_a_row_that_fits_no_block_size_of_the_others_is_bad(tmp_path: Path) -> None:
    path = write(tmp_path, jsonl([*MOONCAKE, row(hash_ids=[1, 2, 3])]))
    with pytest.raises(
        TraceError, match="line 4: hash_ids: 3 ids are not allowed; 600 tokens in blocks of 512 must"
    ) as e:
        read_trace(path)
    assert [bad.line for bad in e.value.bad_rows] == [4]
    requests, bad = read_good_rows(path)
    assert (len(requests), [one.line for one in bad]) == (3, [4])


def test_no_block_size_for_most_rows_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    rows = [row(input_length=100 * size, hash_ids=list(range(100))) for size in (24, 24, 24, 8, 16)]
    path = write(tmp_path, jsonl(rows))
    with pytest.raises(TraceError, match=r"no block size of 8 to 2048 tokens.*give block_tokens"):
        read_good_rows(path)
    requests, bad = read_good_rows(path, TraceOptions(block_tokens=24))
    assert ([one.block_tokens for one in requests], [one.line for one in bad]) == ([24] * 3, [4, 5])


def test_azure(tmp_path: Path) -> None:
    text = AZURE + "2023-11-16 18:17:04.0319609,3180,8\n2023-11-16 18:17:03.9799600,4808,10\n"
    expected = [TraceRequest(0.0, 4808, 10), TraceRequest(0.052, 3180, 8)]
    assert read_trace(write(tmp_path, text)) == expected
    as_published = "\ufeff" + text.replace("\n", "\r\n")
    assert read_trace(write(tmp_path, as_published)) == expected
    columns_elsewhere = "GeneratedTokens,more, TIMESTAMP,ContextTokens\n8,x,2024-05-10 00:00:00.009930+00:00,9\n"
    assert read_trace(write(tmp_path, columns_elsewhere)) == [TraceRequest(0.0, 9, 8)]


def test_times_without_an_offset_are_utc_wherever_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, AZURE + "2024-05-10 01:00:00+01:00,1,1\n2024-05-10 00:00:01,2,1\n")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        found = read_trace(path)
    time.tzset()
    assert [(one.arrival, one.input_len) for one in found] == [(0.0, 1), (1.0, 2)]


def test_servegen(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 412, "input_length": 123, "output_length": 1442, "client": "30"},
        {"timestamp": 2780.25, "input_length": 63, "output_length": 324, "client": "21"},
    ]
    found = read_trace(write(tmp_path, "\n" + jsonl(rows) + "\n\n"))
    assert found == [TraceRequest(0.0, 123, 1442), TraceRequest(2.36825, 63, 324)]


def test_lengths_come_at_once_or_by_a_seeded_process(tmp_path: Path) -> None:
    text = "num_prefill_tokens,num_decode_tokens,pd_ratio\n" + "3772,54,69.85\n2015,156,12.9\n" * 1000
    path = write(tmp_path, text)
    at_once = read_trace(path)
    assert at_once[:2] == [TraceRequest(0.0, 3772, 54), TraceRequest(0.0, 2015, 156)]
    assert {one.arrival for one in at_once} == {0.0}
    spread = read_trace(path, TraceOptions(rate=4.0))
    assert spread == read_trace(path, TraceOptions(rate=4.0)) != read_trace(path, TraceOptions(rate=4.0, seed=1))
    assert [one.input_len for one in spread] == [one.input_len for one in at_once]
    assert sorted(one.arrival for one in spread) == [one.arrival for one in spread]
    assert 2000 / spread[-1].arrival == pytest.approx(4.0, rel=0.1)


def test_no_output_on_record_counts_as_one_token(tmp_path: Path) -> None:
    for text in (jsonl([row(output_length=0)]), AZURE + "2023-11-16 18:17:04,7,0\n"):
        assert [one.output_len for one in read_trace(write(tmp_path, text))] == [1]


BAD_JSON = {
    "timestamp: -1 is not allowed; it must be a number of milliseconds from 0": row(timestamp=-1),
    'timestamp: "soon" is not allowed': row(timestamp="soon"),
    "timestamp is missing; it must be a number of milliseconds": row(timestamp=None),
    "input_length: 0 is not allowed; it must be a whole number from 1 to 16777216": row(input_length=0),
    "input_length: 16777217 is not allowed": row(input_length=2**24 + 1),
    "input_length: a number beyond 64 bits is not allowed": row(input_length=10**30),
    "input_length: 1.5 is not allowed": row(input_length=1.5),
    "output_length: -1 is not allowed; it must be a whole number from 0 to 16777216": row(output_length=-1),
    "output_length: true is not allowed": row(output_length=True),
    "hash_ids is missing; it must be a list of whole numbers or of strings": row(hash_ids=None),
    r"hash_ids: \[1, 2.5\] is not allowed": row(hash_ids=[1, 2.5]),
    "hash_ids: 5 is not allowed": row(hash_ids=5),
    r"hash_ids: \[\"x+\.\.\. is not allowed": row(hash_ids=["x" * 257, 1]),
    "session: 1.5 is not allowed; it must be a whole number from 0 to 9223372036854775807 or a": row(session=1.5),
    "session: a number beyond 64 bits is not allowed": row(session=10**300),
    r"\[1, 2\] is not allowed; a row must be a JSON object": [1, 2],
}


@pytest.mark.parametrize("why", BAD_JSON)
def test_a_bad_json_row_is_named_by_line_field_and_what_is_allowed(tmp_path: Path, why: str) -> None:
    path = write(tmp_path, jsonl([*MOONCAKE, BAD_JSON[why]]))
    with pytest.raises(TraceError, match=f"(?s)1 of 4 rows cannot be used:\n  line 4: .*{why}"):
        read_trace(path)
    requests, bad = read_good_rows(path)
    assert (len(requests), len(bad), bad[0].line) == (3, 1, 4)


@pytest.mark.parametrize(
    "line",
    [
        '{"timestamp": 0,',
        '{"timestamp": 1e999}',
        '{"input_length": ' + "9" * 5000 + "}",
        "[" * 5000,
        '{"a": 1}}',
        "\0",
        '{"timestamp": NaN}',
    ],
)
def test_a_line_that_is_not_json_is_a_bad_row(tmp_path: Path, line: str) -> None:
    requests, bad = read_good_rows(write(tmp_path, jsonl(MOONCAKE) + line + "\n"))
    assert (len(requests), [one.line for one in bad]) == (3, [4])


def test_a_line_that_is_not_text_is_a_bad_row(tmp_path: Path) -> None:
    _, bad = read_good_rows(write(tmp_path, jsonl(MOONCAKE).encode() + b'{"timestamp": "\xff"}\n'))
    assert bad == [BadRow(4, "it is not UTF-8 text")]


def test_ids_in_a_file_that_began_without_are_not_lost_in_silence(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="line 2: hash_ids is not allowed; the first row of the file has none"):
        read_trace(write(tmp_path, jsonl([row(hash_ids=None), row()])))


BAD_AZURE = {
    'TIMESTAMP: "yesterday" is not allowed; it must be a date and time such as 2023-11-16': "yesterday,5,5",
    'ContextTokens: "0" is not allowed; it must be a whole number from 1 to 16777216': "2023-11-16,0,5",
    'ContextTokens: "1_0" is not allowed': "2023-11-16,1_0,5",
    'ContextTokens: "" is not allowed': "2023-11-16,,5",
    'GeneratedTokens: "-1" is not allowed; it must be a whole number from 0 to 16777216': "2023-11-16,5,-1",
    'GeneratedTokens: "5.0" is not allowed': "2023-11-16,5,5.0",
    r'GeneratedTokens: "9+\.\.\. is not allowed': "2023-11-16,5," + "9" * 5000,  # more than Python reads as a number
    '"2023-11-16,5" has 2 fields; it must have 3: TIMESTAMP, ContextTokens, GeneratedTokens': "2023-11-16,5",
    "is not CSV": '2023-11-16,5,"5',
}


@pytest.mark.parametrize("why", BAD_AZURE)
def test_a_bad_csv_row_is_named_by_line_field_and_what_is_allowed(tmp_path: Path, why: str) -> None:
    path = write(tmp_path, AZURE + "2023-11-16 18:17:04,5,5\n\n" + BAD_AZURE[why] + "\n")
    with pytest.raises(TraceError, match=f"(?s)1 of 2 rows cannot be used:\n  line 4: .*{why}"):
        read_trace(path)
    assert len(read_good_rows(path)[0]) == 1


def test_the_first_bad_rows_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = write(tmp_path, jsonl([*MOONCAKE, *[row(input_length=0)] * 8]))
    with pytest.raises(TraceError) as error:
        read_trace(path)
    told = str(error.value).splitlines()
    assert told[0] == f"{path}: 8 of 11 rows cannot be used:"
    assert [line.split(":")[0].strip() for line in told[1:-1]] == [f"line {number}" for number in range(4, 9)]
    assert told[-1] == "  and 3 more"
    assert [bad.line for bad in error.value.bad_rows] == list(range(4, 12))


def test_no_good_row_is_an_error_even_where_bad_rows_are_left_out(tmp_path: Path) -> None:
    for text in (jsonl([row(input_length=0)] * 2), jsonl([row(hash_ids=None, input_length=0)] * 2)):
        with pytest.raises(TraceError, match="2 of 2 rows cannot be used"):
            read_good_rows(write(tmp_path, text))


UNUSABLE = {
    "it is empty": b"",
    "it is empty$": b" \n\n ",
    "it has no rows": AZURE.encode(),
    "neither UTF-8 text nor gzip": b"\x89PNG\r\n\x1a\n\xff\xfe",
    'begins with "TIMESTAMP,Tokens", as no known trace does; known are: JSON rows': b"TIMESTAMP,Tokens\n1,2\n",
    r'begins with "(\\u0000){5}", as no known': bytes(5),
    "begins with .*as no known trace does": b'"a\n1,2\n',
    "gzip data is damaged after line 0": b"\x1f\x8b not really",
    "gzip data is damaged after line": gzip.compress(jsonl([*MOONCAKE] * 5000).encode())[:-9],
    "gzip data is damaged after line .*CRC": gzip.compress(jsonl(MOONCAKE).encode())[:-8] + bytes(8),
}


@pytest.mark.parametrize("why", UNUSABLE)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, why: str) -> None:
    path = write(tmp_path, UNUSABLE[why])
    for reader in (read_trace, read_good_rows):
        with pytest.raises(TraceError, match=why) as error:
            reader(path)
        assert str(error.value).startswith(f"{path}: ")
        assert error.value.bad_rows == ()


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="nowhere: it cannot be read: No such file"):
        read_trace(tmp_path / "nowhere")
    with pytest.raises(TraceError, match="it cannot be read: Is a directory"):
        read_trace(tmp_path)


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, gzip.compress(jsonl(MOONCAKE).encode()))
    with monkeypatch.context() as patch:
        patch.setattr(lines, "MOST_LINE_BYTES", 50)
        with pytest.raises(TraceError, match="line 1 is longer than 50 bytes"):
            read_good_rows(path)
    with monkeypatch.context() as patch:
        patch.setattr(lines, "MOST_BYTES", 150)
        with pytest.raises(TraceError, match=r"it is longer than 150 bytes \(uncompressed\)"):
            read_good_rows(path)
    monkeypatch.setattr(read, "MOST_ROWS", 2)
    with pytest.raises(TraceError, match="it has more than 2 rows"):
        read_good_rows(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("block_tokens", 0), ("block_tokens", 2**25), ("rate", 0.0), ("rate", -1.0), ("rate", float("nan"))],
)
def test_options_out_of_bounds_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field}: .* is not allowed; it must be"):
        TraceOptions(**{field: value})  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([8, 64, 512]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 9000), st.integers(0, 3), st.integers(0, 5)), min_size=1),
)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, size: int, drawn: list[tuple[int, int, int, int]]
) -> None:
    """Prompts share exactly what their ids share, and each has its length."""
    rows = [
        row(
            timestamp=at,
            input_length=length,
            output_length=out,
            hash_ids=[f"{text}-{i}" for i in range(ceil_div(length, size))],
        )
        for at, length, out, text in drawn
    ]
    found = read_trace(write(tmp_path_factory.mktemp("traces"), jsonl(rows)), TraceOptions(block_tokens=size))
    ordered = sorted(drawn, key=lambda one: one[0])
    assert [one.arrival for one in found] == [(at - ordered[0][0]) / 1000 for at, *_ in ordered]
    assert [(one.input_len, one.output_len) for one in found] == [
        (length, max(out, 1)) for _, length, out, _ in ordered
    ]
    names: dict[int, str] = {}
    for request, (_, length, _, text) in zip(found, ordered, strict=True):
        assert len(request.prompt(0)) == length
        for place, block in enumerate(request.blocks):
            assert names.setdefault(block, f"{text}-{place}") == f"{text}-{place}"
    assert sorted(names) == list(range(len(names)))
    assert len(set(names.values())) == len(names)


# Counts, mean lengths, span and hit ratio of an infinite cache, as the traces' own page states them.
RECORDED = {
    "mooncake_conversation_000-040min.jsonl.gz": (7851, 12428, 347, 2397.0, 0.3509),
    "azure2023_conv_1815-1850.csv": (11997, 1254, 205, 2053.2, 0.0),
    "azure2023_code_1815-1850.csv": (6118, 2037, 27, 1976.0, 0.0),
    "servegen_deepseek-r1_h10_sampled.jsonl.gz": (14870, 1114, 3022, 3598.1, 0.0),
    "servegen_m-large_day0h10_sampled.jsonl.gz": (14566, 815, 112, 3598.4, 0.0),
    "vidur_arxiv_summarization_lengths.csv": (28257, 2588, 291, 0.0, 0.0),
    "agent_miniswe_A_derived.jsonl": (182, 9468, 106, 145.7, 0.9301),
    "agent_taubench_task00-24_derived.jsonl.gz": (1381, 2827, 67, 876.4, 0.941),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_traces_have_the_statistics_that_are_known_of_them(traces_folder: Path, name: str) -> None:
    path = traces_folder / name
    if not path.exists():
        pytest.skip(f"--traces DIR or INFERGC_TRACES names no directory with {name}")
    found = read_trace(path)
    inputs = sum(one.input_len for one in found) / len(found)
    outputs = sum(one.output_len for one in found) / len(found)
    figures = (len(found), round(inputs), round(outputs), round(found[-1].arrival, 1), round(hit_ratio(found), 4))
    assert figures == RECORDED[name]


def hit_ratio(requests: list[TraceRequest]) -> float:
    """The share of prompt blocks in the leading run that was seen before: a cache without bounds."""
    seen: set[int] = set()
    hits = 0
    for request in requests:
        hits += next((at for at, block in enumerate(request.blocks) if block not in seen), len(request.blocks))
        seen.update(request.blocks)
    return hits / max(1, sum(len(request.blocks) for request in requests))
