"""vLLM's block pool and KV manager, measured: orders come in on stdin, a line of JSON each, nanoseconds a token go out.

``{"pages": N}`` makes a pool of which half is held, and ``{}`` answers; ``{"tokens": N}`` measures one round of every
operation at this length, and its figures answer, by layer. See ``heap.py`` for what the layers are.
"""

import gc
import json
import os
import random
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np

SIZE = 16  # tokens in a page
BATCH, GROWING = 16, 64  # sequences measured together: of each length; growing by a page
Figures = dict[str, float]


def timed(tokens: int, work: Callable[[], object]) -> float:
    """Nanoseconds a token."""
    began = perf_counter_ns()
    work()
    return (perf_counter_ns() - began) / tokens


class PoolLoad:
    """Sequences as BlockPool sees them: lists of blocks."""

    def __init__(self, pool: Any, tokens: int, requests: list[Any]) -> None:
        self.pool = pool
        self.blocks = -(-tokens // SIZE)
        self.requests = requests
        self.held: list[Any] = []

    def get(self) -> None:
        """Every sequence's blocks."""
        self.held = [self.pool.get_new_blocks(self.blocks) for _ in self.requests]

    def grow(self, rows: int) -> None:
        """A block for each row."""
        self.held = [self.pool.get_new_blocks(1) for _ in range(rows)]

    def publish(self) -> None:
        """Enter hashes made before."""
        for blocks, request in zip(self.held, self.requests, strict=True):
            self.pool.cache_full_blocks(request, blocks, 0, self.blocks, SIZE, 0)

    def share(self) -> None:
        """Look every block up and take it."""
        for request in self.requests:
            hits = [self.pool.get_cached_block(block_hash, [0])[0] for block_hash in request.block_hashes]
            self.pool.touch(hits)
            self.held.append(hits)

    def free(self) -> None:
        """Let go of all, last block first, as the manager does."""
        for blocks in self.held:
            self.pool.free_blocks(reversed(blocks))
        self.held = []


class VllmBench:
    """vLLM's side. ``measure`` leaves the pool as it was, in another order."""

    def __init__(self, pages: int) -> None:
        import torch
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_manager import KVCacheManager
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

        spec = FullAttentionSpec(block_size=SIZE, num_kv_heads=4, head_size=64, dtype=torch.bfloat16)
        config = KVCacheConfig(
            num_blocks=pages, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
        )
        self.manager = KVCacheManager(
            config, max_model_len=SIZE * pages, scheduler_block_size=SIZE, hash_block_size=SIZE
        )
        self.pool = self.manager.block_pool
        init_none_hash(sha256)
        self.hasher = get_request_block_hasher(SIZE, sha256)
        self.random = random.Random(0)  # noqa: S311 - no secret
        self.requests = 0
        self.filler: Any = None
        blocks = self.pool.get_new_blocks(pages - 1)
        self.random.shuffle(blocks)
        self.held = blocks[pages // 2 :]
        self.pool.free_blocks(blocks[: pages // 2])
        gc.collect()
        gc.freeze()

    def measure(self, tokens: int) -> dict[str, Figures]:
        """One round at this length, by layer."""
        blocks = -(-tokens // SIZE)
        count = max(1, min(BATCH, self.pool.get_num_free_blocks() // 2 // blocks))
        prompts = [[self.random.randrange(8000) for _ in range(tokens)] for _ in range(count)]
        requests = [self.request(prompt) for prompt in prompts]
        again = [self.request([*prompt, 0]) for prompt in prompts]
        gc.collect()
        gc.disable()
        found = {
            "pool": self.measure_pool(tokens, requests),
            "manager": self.measure_manager(tokens, requests, again),
        }
        gc.enable()
        return found

    def measure_pool(self, tokens: int, requests: list[Any]) -> Figures:
        """BlockPool alone."""
        load, total = PoolLoad(self.pool, tokens, requests), tokens * len(requests)
        found = {"allocate": timed(total, load.get), "free": timed(total, load.free)}
        rows = max(1, min(GROWING, self.pool.get_num_free_blocks() // 2))
        found["extend"] = timed(rows * SIZE, lambda: load.grow(rows))
        load.free()
        load.get()
        found["publish"] = timed(total, load.publish)
        found["free cached"] = timed(total, load.free)
        found["share"] = timed(total, load.share)
        load.free()
        self.fill_cache()
        found["evict"] = timed(total, load.get)
        load.free()
        return found

    def fill_cache(self) -> None:
        """Let every free block carry a hash: getting one must evict it."""
        free = self.pool.get_num_free_blocks()
        if self.filler is None:
            self.filler = self.request(np.random.default_rng(1).integers(0, 8000, free * SIZE).tolist())
        blocks = self.pool.get_new_blocks(free)
        self.pool.cache_full_blocks(self.filler, blocks, 0, free, SIZE, 0)
        self.random.shuffle(blocks)
        self.pool.free_blocks(blocks)

    def measure_manager(self, tokens: int, requests: list[Any], again: list[Any]) -> Figures:
        """KVCacheManager: ``prompt`` grants the prompt and enters its hashes in one call."""
        manager, total = self.manager, tokens * len(requests)
        self.drop_cache()

        def share() -> None:
            for request in again:
                blocks, hit, _ = manager.get_computed_blocks(request)
                assert hit >= tokens - SIZE, hit
                manager.allocate_slots(request, 1, hit, blocks)

        def free(requests: list[Any]) -> None:
            for request in requests:
                manager.free(request)

        found = {"prompt": timed(total, lambda: [manager.allocate_slots(request, tokens) for request in requests])}
        for request in requests:
            request.num_computed_tokens = tokens
            request.append_output_token_ids([0] * SIZE)
        grow = lambda: [manager.allocate_slots(request, SIZE) for request in requests]  # noqa: E731
        found["extend"] = timed(len(requests) * SIZE, grow)
        found["free cached"] = timed(total, lambda: free(requests))
        found["share"] = timed(total, share)
        free(again)
        self.drop_cache()
        return found

    def drop_cache(self) -> None:
        """Leave no hash on any free block, in a random order."""
        blocks = self.pool.get_new_blocks(self.pool.get_num_free_blocks())
        self.random.shuffle(blocks)
        self.pool.free_blocks(blocks)

    def request(self, prompt: list[int]) -> Any:
        """A request with its hashes made."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        self.requests += 1
        params = SamplingParams(max_tokens=64, ignore_eos=True)
        return Request(f"r{self.requests}", prompt, params, None, block_hasher=self.hasher)


def main() -> None:
    """Answer order after order."""
    os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1")
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what vLLM prints is no answer
    bench: VllmBench | None = None
    for line in sys.stdin:
        order = json.loads(line)
        if "pages" in order:
            bench = None
            gc.unfreeze()
            gc.collect()
            bench = VllmBench(order["pages"])
            replies.write("{}\n")
        else:
            assert bench is not None
            replies.write(json.dumps(bench.measure(order["tokens"])) + "\n")


if __name__ == "__main__":
    main()
