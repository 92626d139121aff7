"""vLLM's scheduler and KV manager alone: requests come in on stdin, tokens are made up, what a step took goes out.

An order is a line of JSON: ``running`` (most sequences), ``pages``, ``block_size``, ``batched_tokens``, ``longest``
(tokens of a request), ``model`` (a config.json) and ``requests``, each [prompt ids, output tokens]. The answer is a
line with ``arrival``, the seconds that adding all requests took (it hashes their prompts), and ``steps``, each
[seconds, sequences, computed tokens, gained tokens]. Making tokens up is in none of these.
"""

import gc
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

Step = tuple[float, int, int, int]


def main() -> None:
    """Answer order after order."""
    os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1")
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what vLLM prints is no answer
    for line in sys.stdin:
        replies.write(json.dumps(answer(json.loads(line))) + "\n")


def answer(order: dict[str, Any]) -> dict[str, Any]:
    """Run the requests of one order to their end."""
    with tempfile.TemporaryDirectory() as model:
        Path(model, "config.json").write_text(json.dumps(order["model"]))
        scheduler, hasher = made(order, model)
        gc.collect()
        gc.freeze()  # as vLLM's own engine does once it is up
        arrival = add(scheduler, hasher, order["requests"])
        steps = list(drive(scheduler))
        gc.unfreeze()
    return {"arrival": arrival, "steps": steps}


def made(order: dict[str, Any], model: str) -> tuple[Any, Any]:
    """A scheduler over a pool of this size, and what hashes a request's pages."""
    import torch
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.hashing import get_hash_fn_by_name
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    size, shape = order["block_size"], order["model"]
    arguments = EngineArgs(
        model=model, skip_tokenizer_init=True, dtype="bfloat16", block_size=size, enable_prefix_caching=True,
        max_num_seqs=order["running"], max_model_len=order["longest"], max_num_batched_tokens=order["batched_tokens"],
    )  # fmt: skip
    config = arguments.create_engine_config()
    config.cache_config.num_gpu_blocks = order["pages"]
    head = shape["hidden_size"] // shape["num_attention_heads"]
    group = FullAttentionSpec(
        block_size=size, num_kv_heads=shape["num_key_value_heads"], head_size=head, dtype=torch.bfloat16
    )
    pool = KVCacheConfig(
        num_blocks=order["pages"], kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layers"], group)]
    )
    scheduler = Scheduler(
        vllm_config=config, kv_cache_config=pool, block_size=size, log_stats=False,
        structured_output_manager=StructuredOutputManager(config),
    )  # fmt: skip
    hash_page = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
    init_none_hash(hash_page)
    return scheduler, get_request_block_hasher(size, hash_page)


def add(scheduler: Any, hasher: Any, requests: list[tuple[list[int], int]]) -> float:
    """Hand all requests in; seconds."""
    from vllm.sampling_params import SamplingParams
    from vllm.v1.request import Request

    began = perf_counter()
    for at, (prompt, length) in enumerate(requests):
        params = SamplingParams(max_tokens=length, ignore_eos=True, temperature=0.0)
        scheduler.add_request(Request(f"r{at}", prompt, params, None, block_hasher=hasher))
    return perf_counter() - began


def drive(scheduler: Any) -> Iterator[Step]:
    """Step until all requests have ended."""
    from vllm.v1.outputs import ModelRunnerOutput

    draw = random.Random(0)  # noqa: S311 - no secret
    while scheduler.has_unfinished_requests():
        began = perf_counter()
        plan = scheduler.schedule()
        planned = perf_counter()
        names = list(plan.num_scheduled_tokens)
        tokens = [[draw.randrange(10, 8000)] if is_at_its_end(scheduler.requests[name]) else [] for name in names]
        output = ModelRunnerOutput(names, {name: row for row, name in enumerate(names)}, sampled_token_ids=tokens)
        sampled = perf_counter()
        scheduler.update_from_output(plan, output)
        seconds = perf_counter() - sampled + planned - began
        yield seconds, len(names), plan.total_num_scheduled_tokens, sum(map(len, tokens))


def is_at_its_end(request: Any) -> bool:
    """Whether the step just planned computes the last token that is known of a request, so that it gains one."""
    return bool(request.num_computed_tokens >= request.num_tokens)


if __name__ == "__main__":
    main()
