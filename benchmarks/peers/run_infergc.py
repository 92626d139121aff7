"""Rounds of Infer-GC, through its offline API. See ``answering`` for what goes in and out."""

import argparse

from answering import Answers, vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--setting", action="append", default=[], help="NAME=VALUE of the engine's configuration")
    args = parser.parse_args()
    answers = Answers()
    from infergc import LLM, SamplingParams, __version__

    settings = dict(setting.split("=", 1) for setting in args.setting)
    llm = LLM(args.model, **settings)

    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        params = SamplingParams(max_tokens=count, temperature=0, ignore_eos=True)
        results = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False)
        return [result.outputs[0].token_ids for result in results]

    shown = {"dtype": llm.ready.dtype, "attention": llm.ready.backend, **settings}
    answers.serve({"engine": "infergc", "version": __version__, "flags": shown}, vocabulary(args.model), generate)


if __name__ == "__main__":
    main()
