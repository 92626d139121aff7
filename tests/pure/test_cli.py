"""The command line: help, errors and generation, in real processes."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from infergc import __version__
from infergc.cli import main
from infergc.cli.engine_options import HEADINGS
from infergc.config import EngineConfig, flag
from samples import served_model, slow_sim
from samples.servers import PATIENCE, ROOT, START_SECONDS, environment, infergc, infergc_result, serving, untimed

SIM = ("--executor", "infergc.sim.executor:create_executor")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_model.save(tmp_path_factory.mktemp("served"))


def test_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert infergc_result("--version") == (0, f"infergc, version {__version__}\n", "")
    assert project["version"] == __version__


def test_help_says_what_each_command_does() -> None:
    out = infergc_result("--help", env=environment(COLUMNS="80"))[1]
    assert "Continue PROMPT and print the text.\n" in out


@pytest.mark.parametrize(
    ("flags", "variables", "shown"),
    [
        (("--api-key", "s3cret"), {}, "Bearer YOUR_KEY"),
        ((), {"INFERGC_API_KEY": "s3cret"}, "Bearer $INFERGC_API_KEY"),
    ],
)
def test_the_line_to_try_asks_for_the_key_and_does_not_show_it(
    model: Path, flags: tuple[str, ...], variables: dict[str, str], shown: str
) -> None:
    with serving(model, *SIM, *flags, **variables) as server:
        assert f'-H "Authorization: {shown}"' in server.announcement
        assert "s3cret" not in server.announcement


def test_help_shows_every_setting_under_a_heading() -> None:
    code, out, _ = infergc_result("serve", "--help", env=environment(COLUMNS="100"))
    assert code == 0
    positions = [out.index(f"\n{heading}:\n") for heading in ("Server", *HEADINGS, "Other")]
    assert positions == sorted(positions)
    for name, field in EngineConfig.model_fields.items():
        assert flag(name) in out
        if name != "model":
            assert field.description.split()[0] in out
    assert "512MiB on a CPU without --memory." in re.sub(r"\s+", " ", out)
    assert {name for names in HEADINGS.values() for name in names} | {"model"} == set(EngineConfig.model_fields)


def test_generate_streams_to_the_terminal(model: Path) -> None:
    arguments = ("generate", "hello", "--model", model, *SIM, "--max-tokens", "20", "--ignore-eos")
    code, out, err = infergc_result(*arguments, "--seed", "1")
    assert code == 0
    assert out.strip()
    assert re.fullmatch(r"\[20 tokens, [\d.]+ a second, ended by length\]\n", err)
    assert infergc_result(*arguments, "--seed", "1")[1] == out != infergc_result(*arguments, "--seed", "2")[1]


def test_generate_prints_several_texts_under_their_numbers(model: Path) -> None:
    arguments = ("generate", "hello", "--model", model, *SIM, "--max-tokens", "20", "--ignore-eos", "--seed", "1")
    one = infergc_result(*arguments)[1]
    code, out, err = infergc_result(*arguments, "--n", "3")
    assert code == 0
    first, *others = re.fullmatch(r"\[1\]\n(.*\n)\[2\]\n(.*\n)\[3\]\n(.*\n)", out, re.DOTALL).groups()
    assert first == one
    assert len({one, *others}) == 3
    assert re.fullmatch(r"\[60 tokens, [\d.]+ a second, ended by length, length, length\]\n", err)


def test_generate_searches(model: Path) -> None:
    arguments = ("generate", "hello", "--model", model, *SIM, "--max-tokens", "9", "--ignore-eos", "--use-beam-search")
    code, best, err = infergc_result(*arguments, "--beam-width", "3")
    assert code == 0
    assert err.startswith("[9 tokens, ")
    code, out, _ = infergc_result(*arguments, "--beam-width", "3", "--n", "2")
    assert out.startswith(f"[1]\n{best}[2]\n")


def test_generate_reads_standard_input_and_chats(model: Path) -> None:
    arguments = ("--model", model, *SIM, "--max-tokens", "5", "--ignore-eos")
    from_stdin = subprocess.run(
        [sys.executable, "-m", "infergc.cli", "generate", "-", *map(str, arguments)],
        input="hello", env=environment(), capture_output=True, text=True, timeout=START_SECONDS, check=True,
    )  # fmt: skip
    assert from_stdin.stdout == infergc_result("generate", "hello", *arguments)[1]
    assert infergc_result("generate", "hello", "--chat", *arguments)[0] == 0


def test_text_comes_before_the_end(model: Path) -> None:
    arguments = (
        "generate",
        "hello",
        "--model",
        model,
        "--executor",
        slow_sim.DAWDLING,
        "--max-tokens",
        "900",
        "--ignore-eos",
    )
    with infergc(*arguments, errors="replace") as process:  # it may be cut within a character
        assert os.read(process.stdout.fileno(), 1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err.strip()) == (1, "Aborted!")


USAGE = [
    (("serve", "/nowhere"), "MODEL_DIR: /nowhere is not a directory"),
    (("serve", "--model", "/nowhere"), "--model: /nowhere is not a directory"),
    (("generate", "hello", "--model", "/nowhere"), "--model: /nowhere is not a directory"),
    (("serve", "MODEL", "--model", "MODEL"), "--model"),
    (("serve", "MODEL", "--block-size", "7"), "--block-size: 7 is not one of 8, 16, 32, 64\n"),
    (("serve", "MODEL", "--kv-cache-memory", "lots"), '--kv-cache-memory: "lots" is not a size'),
    (("serve", "MODEL", "--memory", "1GiB", "--kv-cache-memory", "1GiB"), "--memory: give either --memory, for the"),
    (("serve", "MODEL", "--max-body-size", "lots"), '--max-body-size: "lots" is not a size'),
    (("serve", "MODEL", "--max-body-size", "0"), '--max-body-size: "0" is not allowed; it must be ≥ 1KiB\n'),
    (("serve", "MODEL", "--max-body-size", "1000"), "--max-body-size"),
    (("serve", "MODEL", "--served-model-name", ""), "--served-model-name: must not be empty"),
    *(
        (
            ("serve", "MODEL", name, value),
            f"'{name}': {value} is not allowed; it must be from {least} to 1,000,000,000 s\n",
        )
        for name, least in (("--shutdown-timeout", 0), ("--session-timeout", 0.1))
        for value in ("nan", "inf", "-1", "2e+09")
    ),
    (("serve", "MODEL", "--max-num-queued-reqs", "-1"), "'--max-num-queued-reqs': -1 is not in the range 0<=x<="),
    (("serve", "MODEL", "--queue-timeout", "0"), "'--queue-timeout': 0 is not allowed; it must be a whole"),
    *(
        (
            ("serve", "MODEL", "--queue-timeout", value),
            f"'--queue-timeout': {value} is not allowed; it must be a whole number of seconds from 1 to 86400\n",
        )
        for value in ("0.5", "soon", "86401")
    ),
    (("serve", "MODEL", "--session-timeout", "soon"), "'--session-timeout': 'soon' is not a valid float"),
    (("serve", "MODEL", "--max-num-seqs", "0"), "--max-num-seqs: 0 is not allowed; it must be ≥ 1 and ≤ 4096\n"),
    (("serve", "MODEL", "--max-num-seqs", "x"), "--max-num-seqs"),
    (("serve", "MODEL", "--dtype", "int3"), "--dtype"),
    (("serve", "MODEL", "--port", "70000"), "--port"),
    (("serve", "MODEL", "--api-key", ""), "--api-key"),
    (("serve", "MODEL", "--chat-template", "/nowhere"), "--chat-template"),
    (("generate", "hello", "--model", "MODEL", "--top-p", "0"), "--top-p: 0.0 is not allowed"),
    (("generate", "hello", "--model", "MODEL", "--max-tokens", "0"), "--max-tokens: 0 is not allowed"),
    (("generate", "hello", "--model", "MODEL", *SIM, "--max-tokens", "2000"), "--max-tokens: 2000 is too many; this m"),
    (("generate", "hello", "--model", "MODEL", "--n", "0"), "--n: 0 is not allowed"),
    (("generate", "hello", "--model", "MODEL", *SIM, "--n", "4000"), "--n: 4000 is too many; this engine runs at most"),
    (("generate", "hello", "--model", "MODEL", "--beam-width", "3"), "--beam-width: is only allowed with --use-beam-s"),
    (
        ("generate", "hello", "--model", "MODEL", "--use-beam-search", "--n", "3", "--beam-width", "2"),
        "--n: 3 is over --beam-width (2)",
    ),
    (
        ("generate", "hello", "--model", "MODEL", "--json-schema", __file__, "--regex", "a"),
        "--json-schema, --regex: the text cannot keep to both",
    ),
    (
        ("generate", "hello", "--model", "MODEL", "--json-schema", __file__),
        f"--json-schema: {__file__} is not JSON: Extra data: line 1 column 3",
    ),
    (("generate", "", "--model", "MODEL"), "PROMPT: must not be empty"),
    (("generate", "-", "--model", "MODEL"), "PROMPT: must not be empty"),
    (("serve", "MODEL", "--mem-fraction-static", "0.9"), "the nearest here is '--gpu-memory-utilization'"),
    (("generate",), "PROMPT"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=lambda value: str(value)[:40])
def test_usage_errors_name_the_flag(model: Path, arguments: tuple[str, ...], words: str) -> None:
    result = CliRunner().invoke(main, [str(model) if part == "MODEL" else part for part in arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


STARTS = [
    (("--executor", "nowhere:create"), "--executor"),
    ((*SIM, "--max-model-len", "1000000"), "--max-model-len"),
    ((*SIM, "--kv-cache-memory", "1KiB"), "--kv-cache-memory"),
    ((*SIM, "--memory", "1KiB"), "--memory"),
]


@pytest.mark.parametrize(("flags", "words"), STARTS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("command", ["serve", "generate"])
def test_start_errors_are_one_line(model: Path, command: str, flags: tuple[str, ...], words: str) -> None:
    arguments = ("generate", "hello", "--model") if command == "generate" else ("serve", "--port", "0", "--model")
    result = CliRunner().invoke(main, [*arguments, str(model), *flags])
    assert (result.exit_code, result.stdout) == (1, "")
    *said, error = result.stderr.splitlines()
    assert untimed("\n".join(said)) == (f"Loading {model.name} …" if command == "serve" else "")
    assert error.startswith(f"Error: {words}: ")


def test_a_broken_model_directory_is_named(tmp_path: Path) -> None:
    served_model.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    code, _, err = infergc_result("serve", tmp_path, "--port", "0", *SIM)
    assert code == 1
    said, error = err.splitlines()
    assert untimed(said) == f"Loading {tmp_path.name} …"
    assert re.fullmatch(r"Error: .*tokenizer.json.+", error)


def test_the_environment_names_a_model(model: Path, tmp_path: Path) -> None:
    arguments = ("generate", "hello", *SIM, "--max-tokens", "2")
    assert infergc_result(*arguments, env=environment(INFERGC_MODEL=str(model)))[0] == 0
    code, _, err = infergc_result(*arguments, env=environment(INFERGC_MODEL=str(tmp_path)))
    assert code == 2
    assert f"INFERGC_MODEL: {tmp_path} is not a model directory" in err


def test_stopped_while_it_starts_a_server_leaves_quietly(model: Path) -> None:
    with infergc("serve", model, "--port", "0", "--executor", slow_sim.SLOW_START) as process:
        while not psutil.Process(process.pid).children():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (0, "", err)
        assert untimed(err) == f"Loading {model.name} …\n"


HEAVY = ("torch", "transformers", "safetensors")


@pytest.mark.parametrize(
    "module", ["server.run", "server.app", "client", "client.local", "llm", "cli", "engine.process"]
)
def test_nothing_above_the_torch_line_brings_in_torch(module: str) -> None:
    code = f"import sys, infergc.{module}; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_help_does_not_wait_for_the_server() -> None:
    code = (
        "import sys, infergc.cli; print([n for n in ('fastapi', 'uvicorn', 'tokenizers', 'rich') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
