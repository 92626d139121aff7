"""Rounds of transformers' ``generate`` on one batch; all prompts are equally long, so nothing is padded."""

import argparse

from answering import Answers, vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--attention", default="sdpa")
    args = parser.parse_args()
    answers = Answers()
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=getattr(torch, args.dtype), attn_implementation=args.attention
    )

    @torch.inference_mode()
    def generate(prompts: list[list[int]], count: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        how = transformers.GenerationConfig(
            max_new_tokens=count, min_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
        return output[:, ids.shape[1] :].tolist()

    flags = {"dtype": args.dtype, "attention": args.attention, "threads": args.threads}
    version = f"{transformers.__version__}, torch {torch.__version__}"
    answers.serve({"engine": "transformers", "version": version, "flags": flags}, vocabulary(args.model), generate)


if __name__ == "__main__":
    main()
