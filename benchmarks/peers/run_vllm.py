"""Rounds of vLLM's offline API on a CPU.

Its guide asks for tcmalloc and Intel's OpenMP to be preloaded: set LD_PRELOAD before this starts. Left alone it keeps
a core back for its scheduler; here its threads get every core.
"""

import argparse
import os
from pathlib import Path

from answering import Answers, vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--longest", type=int, required=True, help="longest prompt plus output, in tokens")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--kv-gib", type=float, default=2.0)
    parser.add_argument("--max-num-batched-tokens", type=int)
    parser.add_argument("--block-size", type=int)
    args = parser.parse_args()
    answers = Answers()
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = cores
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    import vllm

    chosen = {"max_num_batched_tokens": args.max_num_batched_tokens, "block_size": args.block_size}
    llm = vllm.LLM(
        model=args.model,
        dtype=args.dtype,
        max_model_len=max(2048, args.longest),
        max_num_seqs=256,
        kv_cache_memory_bytes=int(args.kv_gib * 2**30),
        **{name: value for name, value in chosen.items() if value is not None},
    )

    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        params = vllm.SamplingParams(max_tokens=count, ignore_eos=True, temperature=0.0, detokenize=False)
        results = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False)
        return [list(result.outputs[0].token_ids) for result in results]

    config = llm.llm_engine.vllm_config
    flags = {
        "dtype": args.dtype,
        "threads_bind": cores,
        "preload": [Path(path).name for path in os.environ.get("LD_PRELOAD", "").split(":")],
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "block_size": config.cache_config.block_size,
    }
    description = {"engine": "vllm", "version": vllm.__version__, "flags": flags}
    answers.serve(description, vocabulary(args.model), generate)


if __name__ == "__main__":
    main()
