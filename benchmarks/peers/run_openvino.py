"""Rounds of OpenVINO GenAI's continuous batching, on a model that optimum-cli has exported."""

import argparse

from answering import Answers, vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="directory of the exported model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--precision", default="f32", help="INFERENCE_PRECISION_HINT")
    parser.add_argument("--kv-precision", default="", help="KV_CACHE_PRECISION; empty leaves it to OpenVINO")
    parser.add_argument("--kv-gib", type=int, default=2)
    parser.add_argument("--max-num-batched-tokens", type=int, default=2048)
    parser.add_argument("--property", action="append", default=[], help="another NAME=VALUE")
    args = parser.parse_args()
    answers = Answers()
    import numpy as np
    import openvino
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = args.kv_gib
    scheduler.max_num_seqs = 256
    scheduler.max_num_batched_tokens = args.max_num_batched_tokens
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    properties = {"INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY"}
    properties["INFERENCE_PRECISION_HINT"] = args.precision
    if args.kv_precision:
        properties["KV_CACHE_PRECISION"] = args.kv_precision
    properties |= dict(given.split("=", 1) for given in args.property)
    pipeline = genai.ContinuousBatchingPipeline(args.model, scheduler, "CPU", properties)

    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        how = genai.GenerationConfig(max_new_tokens=count, ignore_eos=True, do_sample=False)
        inputs = [openvino.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts]
        results = pipeline.generate(inputs, [how] * len(prompts))
        return [list(result.m_generation_ids[0]) for result in results]

    flags = {**properties, "max_num_batched_tokens": args.max_num_batched_tokens}
    description = {"engine": "openvino-genai", "version": genai.__version__, "flags": flags}
    answers.serve(description, vocabulary(args.model), generate)


if __name__ == "__main__":
    main()
