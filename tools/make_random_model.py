"""Write a Llama-shaped model of random weights, to measure speed on: 82 M parameters unless told otherwise.

Usage: python tools/make_random_model.py OUT [--tokenizer DIR] [--hidden 768] [--layers 12] …

The tokenizer is copied from another model's directory (the bundled one by default), so that servers and peers
can load the result; its vocabulary may be smaller than the model's.
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).parents[1]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
# A small model as initialised repeats one token. With its matrices scaled its greedy streams vary.
GAIN = 8.0


def build(options: argparse.Namespace) -> LlamaForCausalLM:
    """The model in bfloat16, its weights drawn from the seed."""
    config = LlamaConfig(
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads,
        intermediate_size=options.ffn,
        vocab_size=options.vocab,
        max_position_embeddings=options.context,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(options.seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.mul_(GAIN)
    return model.to(torch.bfloat16)


def main() -> None:
    """Write the model where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="directory to write; must not exist")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "models" / "demo", help="directory to copy it from")
    sizes = {"hidden": 768, "layers": 12, "heads": 12, "kv-heads": 4, "ffn": 2048, "vocab": 8192, "context": 4096}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"out: {options.out} exists; give a directory that does not")
    model = build(options)
    model.save_pretrained(options.out)
    for name in TOKENIZER_FILES:
        shutil.copy(options.tokenizer / name, options.out / name)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters in {options.out}")


if __name__ == "__main__":
    main()
