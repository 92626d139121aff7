"""The ledger on a GPU: what it says is what torch and the driver count when the pool was filled."""

import json

import pytest

from cpu.served import demo_model
from cpu.test_worker_ledger import FILLING, ROOT, in_fresh_process
from samples.gpu_here import needs_gpu

pytestmark = [needs_gpu, pytest.mark.skipif(demo_model(ROOT) is None, reason="models/demo is not complete")]
FILL = f"""{FILLING}
    import torch
    free, total = torch.cuda.mem_get_info()
    found = dict(reserved=torch.cuda.max_memory_reserved(), allocated=torch.cuda.max_memory_allocated())
    print(json.dumps(dict(found, taken=total - free, ledger=llm.ready.memory, stats=llm.stats["kv"])))
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("seqs", [8, 64])
def test_the_sum_covers_a_run_that_fills_the_pool(dtype: str, seqs: int) -> None:
    settings = {"device": "cuda", "dtype": dtype, "kv_cache_memory": "96MiB", "max_num_seqs": seqs}
    found = in_fresh_process(FILL, str(ROOT / "models" / "demo"), json.dumps(settings))
    ledger, stats = found["ledger"], found["stats"]
    assert list(ledger) == ["runtime", "weights", "activations", "kv"]
    of_torch = sum(ledger.values()) - ledger["runtime"]
    assert found["allocated"] <= of_torch
    assert found["reserved"] <= 1.05 * of_torch
    assert found["taken"] <= 1.05 * sum(ledger.values())
    assert stats["full"]["cached"] > 0.9 * stats["full"]["capacity"], "storage is full"
