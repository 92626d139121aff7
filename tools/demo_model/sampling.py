"""A few continuations by the finished model, for its card."""

from __future__ import annotations

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from demo_model.card import Sample
from demo_model.tokenizer import encode_chat

CHATS = ("Tell me a story.", "Who is Elizabeth?")
TEXT = "It was a dark and stormy night, and"
LENGTH = 80  # tokens


def draw_samples(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> list[Sample]:
    """Draw one continuation of a plain text and of each chat with `seed`."""
    torch.manual_seed(seed)
    assistant = tokenizer.convert_tokens_to_ids("<|assistant|>")
    prompts = [(TEXT, tokenizer.encode(TEXT))]
    prompts += [(chat, [*encode_chat(tokenizer, [("user", chat)]), assistant]) for chat in CHATS]
    return [Sample(prompt, continuation(model, tokenizer, ids)) for prompt, ids in prompts]


def continuation(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """Draw up to LENGTH tokens after `ids` at temperature 0.8 and top-p 0.95; text without special tokens."""
    prompt = torch.tensor([ids])
    drawn = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=LENGTH,
        do_sample=True,
        temperature=0.8,
        top_p=0.95,
        use_cache=True,
    )
    return str(tokenizer.decode(drawn[0, len(ids) :], skip_special_tokens=True)).strip()
