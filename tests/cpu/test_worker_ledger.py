"""The ledger: what it says is what a process takes that fills its KV, whatever the steps look like."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cpu.random_models import make_random_model
from infergc.config import ConfigError, engine_config
from infergc.units import GIB, MIB, format_bytes, parse_bytes
from infergc.worker.factory import create_executor
from infergc.worker.startup.ledger import check_fits, memory_limit
from samples.lengths import at_length

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "demo"
MEMORY = at_length("400MiB", "480MiB")

# Prompts of all lengths, more than the pool holds; half of the requests ask for all that sampling has to offer.
FILLING = """
import json, random, sys
from infergc import LLM, SamplingParams

model, settings = sys.argv[1], json.loads(sys.argv[2])
longest = settings.pop("longest_prompt", 600)
plain = dict(ignore_eos=True, max_tokens=8, top_p=0.9, seed=1)
dear = dict(plain, repetition_penalty=1.1, frequency_penalty=0.2, min_p=0.01, logprobs=5, logit_bias={5: 1.0})
rng = random.Random(0)
with LLM(model, threads=1, **settings) as llm:
    done, capacity = 0, llm.ready.kv_capacity_tokens
    while done < 1.2 * capacity:
        lengths = [rng.randrange(1, longest) for _ in range(max(40, 12_000 // longest))]
        prompts = [{"prompt_token_ids": [rng.randrange(3, 4000) for _ in range(length)]} for length in lengths]
        params = [SamplingParams(**rng.choice((plain, dear))) for _ in lengths]
        llm.generate(prompts, params, use_tqdm=False)
        done += sum(lengths)
"""
FILL = f"""{FILLING}
    from infergc.engine.footprint import footprint
    held = footprint()
    found = dict(peak=held.peak, kv=held.shared)
    print(json.dumps(dict(found, ledger=llm.ready.memory, stats=llm.stats["kv"])))
"""

# The peak of private memory while loading above what was there before, and the growth of mapped files.
LOAD = """
import sys, json
from pathlib import Path
from infergc.engine.footprint import footprint, watched_peak
from infergc.worker.loading.loader import load_weights, open_model
source = open_model(Path(sys.argv[1]), "float32")
before = footprint()
with watched_peak() as peak:
    weights = load_weights(source)
print(json.dumps([peak.private - before.private, footprint().files - before.files]))
"""


def in_fresh_process(script: str, *arguments: str) -> Any:
    """What a script prints as JSON."""
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    command, environment = [sys.executable, "-c", script, *arguments], {**os.environ, "PYTHONPATH": path}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "float32", "kv_cache_memory": "48MiB"},
        {"dtype": "float32", "memory": MEMORY, "max_num_batched_tokens": 333, "max_num_seqs": 17},
        {
            "dtype": "bfloat16",
            "kv_cache_memory": "16MiB",
            "max_num_batched_tokens": 128,
            "max_num_seqs": 128,
            "longest_prompt": 60,
        },  # so that as many run at once
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_the_sum_is_the_peak_of_a_run_that_fills_the_pool(settings: dict[str, object]) -> None:
    found = in_fresh_process(FILL, str(MODEL), json.dumps(settings))
    ledger, peak, stats = found["ledger"], found["peak"], found["stats"]
    assert list(ledger) == ["runtime", "weights", "activations", "kv"]
    assert abs(sum(ledger.values()) - peak) <= 0.05 * peak, found
    assert abs(found["kv"] - ledger["kv"]) <= 0.05 * ledger["kv"], "storage is full, and is all that is shared memory"
    assert stats["full"]["cached"] > 0.9 * stats["full"]["capacity"]
    if "memory" in settings:
        asked = parse_bytes(str(settings["memory"]))
        assert asked - 2 * MIB < sum(ledger.values()) <= asked


def test_loading_takes_little_beside_the_weights(tmp_path: Path) -> None:
    """The peak while loading, and after it, of a model that takes 64 MiB and whose file has half of that."""
    make_random_model(tmp_path / "m", "--hidden 256 --layers 1 --heads 4 --vocab 65536 --ffn 512")
    private, files = in_fresh_process(LOAD, str(tmp_path / "m"))
    assert 64 * MIB < private < 64 * MIB + 20 * MIB
    assert files < 4 * MIB, "the checkpoint is read, not mapped"


# What a whole executor books, and its peaks: each as it is when the process restarts it, and the last.
CREATE = """
import json, sys
from pathlib import Path
from infergc.config import engine_config
from infergc.engine.footprint import footprint
from infergc.worker.factory import create_executor
peaks, write = [], Path.write_text
def noting(path, *args, **kwargs):
    if path.name == "clear_refs":
        peaks.append(footprint().peak)
    return write(path, *args, **kwargs)
Path.write_text = noting
executor = create_executor(engine_config(
    model=sys.argv[1], dtype="float32", threads=2, max_num_seqs=2, max_num_batched_tokens=64
))
print(json.dumps([executor.facts.memory, *peaks, footprint().peak]))
"""


def test_loading_and_packing_a_large_vocabulary_fit_in_the_sum(tmp_path: Path) -> None:
    """The process restarts its own peak before the rehearsal: the most is of before and after."""
    make_random_model(tmp_path / "m", "--hidden 256 --layers 1 --heads 4 --vocab 120001")
    memory, *peaks = in_fresh_process(CREATE, str(tmp_path / "m"))
    assert len(peaks) > 1, "it was restarted"
    peak = max(peaks)
    assert abs(sum(memory.values()) - peak) <= 0.05 * peak, (memory, peak)


# Growth of private memory, by how many texts of full length are decoded after start-up has rehearsed.
LONG = """
import json, sys
from infergc.config import engine_config
from infergc.engine.footprint import footprint
from infergc.worker.factory import create_executor
from infergc.worker.startup.rehearsal import Rehearsal
executor = create_executor(engine_config(
    model=sys.argv[1], dtype="float32", threads=2, max_num_seqs=4, max_num_batched_tokens=64
))
grown = []
for rows in (1, 2, 3):
    before = footprint().private
    Rehearsal(tokens=64, slots=4, longest=131072, page_tokens=16, lone_rows=rows).run(executor)
    grown.append(footprint().private - before)
print(json.dumps(grown))
"""


def test_after_the_rehearsal_long_texts_take_no_more(tmp_path: Path) -> None:
    """With 4 KV heads and 2 threads attention cuts the work of one long text, but of two no more."""
    make_random_model(
        tmp_path / "m",
        "--layers 1 --heads 12 --kv-heads 4 --hidden 768 --ffn 64 --vocab 8192 --context 131072",
    )
    assert max(in_fresh_process(LONG, str(tmp_path / "m"))) < 4 * MIB


def test_budgets_larger_than_the_machine_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--kv-cache-memory: 100.0 TiB do not fit: this machine .* beside runtime"):
        check_fits(engine_config(model="m", kv_cache_memory="100TiB"), {"runtime": GIB, "weights": GIB})
    with pytest.raises(ConfigError, match=r"--memory: 100.0 TiB do not fit: this machine or container has .* memory$"):
        check_fits(engine_config(model="m", memory="100TiB"), {"runtime": GIB})
    check_fits(engine_config(model="m", kv_cache_memory=MIB), {"runtime": MIB})


def test_weights_that_leave_nothing_are_refused_before_they_are_loaded() -> None:
    with pytest.raises(ConfigError, match="beside runtime and weights at most 0 B are left"):
        check_fits(engine_config(model="m"), {"runtime": GIB, "weights": 100 * 1024 * GIB})


def model_without_weights(directory: Path, layers: int) -> Path:
    """A Llama of 16 GiB or more in float32, were its weights there: only config.json is sound."""
    directory.mkdir()
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32}
    shape = {**sizes, "num_hidden_layers": layers, "vocab_size": 32000, "max_position_embeddings": 4096}
    kind = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5, "hidden_act": "silu"}
    (directory / "config.json").write_text(json.dumps({**kind, **shape, "tie_word_embeddings": False}))
    save_file({"none": torch.zeros(1)}, directory / "model.safetensors")
    return directory


@pytest.mark.parametrize("layers", [20, 4000], ids=["beyond the budget", "beyond the machine too"])
def test_a_budget_less_than_the_weights_is_refused_before_they_are_loaded(tmp_path: Path, layers: int) -> None:
    """Nothing was loaded: the weights of this model are not there, and that is not what is complained of."""
    config = engine_config(model=model_without_weights(tmp_path / "m", layers), dtype="float32", memory="1GiB")
    weights = (layers * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 2 * 32000 * 4096 + 4096) * 4
    with pytest.raises(ConfigError) as caught:
        create_executor(config)
    said = re.fullmatch(
        r"--memory: 1\.0 GiB do not hold runtime \S+ [MG]iB and weights (\S+ [GT]iB); with activations and KV it must "
        r"be more than --memory (\d+)MiB(; this machine or container has \S+ GiB of memory)?",
        str(caught.value),
    )
    assert said is not None, str(caught.value)
    assert said[1] == format_bytes(weights)
    assert weights + 100 * MIB < int(said[2]) * MIB < weights + 8 * GIB
    assert (said[3] is None) == (int(said[2]) * MIB <= memory_limit())


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    machine = memory_limit(tmp_path / "absent", tmp_path)
    own = tmp_path / "cgroup"
    for line, folder, name in (
        ("0::/a/b", "a/b", "memory.max"),
        ("5:cpu,memory:/c", "memory/c", "memory.limit_in_bytes"),
    ):
        own.write_text(line + "\n1:name=systemd:/x\n")
        (tmp_path / folder).mkdir(parents=True)
        assert memory_limit(own, tmp_path) == machine
        (tmp_path / folder / name).write_text("max\n")
        assert memory_limit(own, tmp_path) == machine
        (tmp_path / folder / name).write_text(f"{MIB}\n")
        assert memory_limit(own, tmp_path) == MIB
    own.write_text("0::/outside\n")
    (tmp_path / "memory.max").write_text(f"{2 * MIB}\n")
    assert memory_limit(own, tmp_path) == 2 * MIB, "inside a container its own group is the top"


def test_memory_that_the_system_refuses_at_start_is_told_with_the_flags_that_ask_for_it() -> None:
    """A budget that fits this machine, in a process that may not have so much."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); sys.argv[0] = 'infergc'"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{limited}; from infergc.cli import main; main()",
         "generate", "--model", str(MODEL), "--kv-cache-memory", "5.5GiB", "Once"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "memory was refused at start; less KV (--kv-cache-memory" in done.stderr
    assert "Cannot allocate memory" in done.stderr
    assert "Traceback" not in done.stderr
