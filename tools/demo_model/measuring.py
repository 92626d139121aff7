"""What the finished model is worth: perplexity of held-out text, by row and by position, and recall on fresh seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from demo_model.corpus import Book
from demo_model.tokenizer import encode
from infergc.evaluation.tasks import TASKS, Setting

EARLY, LATE = range(128), range(512, 1024)  # positions in a row
STEP = len(EARLY)


@dataclass(frozen=True)
class HeldOut:
    """How well held-out text is predicted, over rows of `row` tokens."""

    row: int
    tokens: int
    perplexity: float
    bits_per_byte: float


@dataclass(frozen=True)
class Recalled:
    """How many answers of a task, of so many asked, are right in every token, in contexts of `length` tokens."""

    task: str
    length: int
    right: int
    asked: int


@torch.inference_mode()
def token_losses(model: LlamaForCausalLM, ids: list[int]) -> torch.Tensor:
    """Return -log p (nats) of tokens 1 … L-1, each given those before it: [L-1], float32."""
    ids_L = torch.tensor(ids)
    return functional.cross_entropy(model(input_ids=ids_L[None, :-1]).logits[0], ids_L[1:], reduction="none")


def held_out_ids(book: Book, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the token ids of the book's held-out end."""
    return encode(tokenizer, "\n\n".join(book.held_out))


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, books: list[Book], row: int) -> HeldOut:
    """Predict every held-out token once, in rows of at most `row` tokens that each begin with `<|bos|>`."""
    nats, tokens, size = 0.0, 0, 0
    for book in books:
        ids = held_out_ids(book, tokenizer)
        for at in range(0, len(ids), row - 1):
            nats += token_losses(model, [tokenizer.bos_token_id, *ids[at : at + row - 1]]).sum().item()
        tokens += len(ids)
        size += len("\n\n".join(book.held_out).encode())
    return HeldOut(row, tokens, math.exp(nats / tokens), nats / math.log(2) / size)


def by_position(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, books: list[Book]
) -> dict[range, float] | None:
    """Return perplexity with few tokens before and with many, EARLY and LATE, of the same tokens.

    A row begins at every STEP held-out tokens: each token is at one EARLY position and at several LATE ones, whose mean
    counts. Tokens that have both are counted; where there is none, as no text is long enough, None is returned.
    """
    nats: dict[range, list[float]] = {EARLY: [], LATE: []}
    for book in books:
        ids = held_out_ids(book, tokenizer)
        seen: dict[range, defaultdict[int, list[float]]] = {EARLY: defaultdict(list), LATE: defaultdict(list)}
        for at in range(0, len(ids), STEP):
            losses = token_losses(model, [tokenizer.bos_token_id, *ids[at : at + LATE.stop]]).tolist()
            for positions, found in seen.items():
                for position in range(positions.start, min(positions.stop, len(losses))):
                    found[at + position].append(losses[position])
        for token in seen[EARLY].keys() & seen[LATE].keys():
            for positions, found in seen.items():
                nats[positions].append(sum(found[token]) / len(found[token]))
    if not nats[EARLY]:
        return None
    return {positions: math.exp(sum(each) / len(each)) for positions, each in nats.items()}


def recall(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, task: str, length: int, contexts: int
) -> Recalled:
    """Ask on contexts of seeds that no training row has, at depths from 0 to 1; all of an answer has to be right."""

    def count(text: str) -> int:
        return len(encode(tokenizer, text))

    right = 0
    for seed in range(contexts):
        depth = seed / max(1, contexts - 1)
        sample = TASKS[task](Setting(length, depth, seed, count, 1, questions=1))
        (question,) = sample.questions
        prompt = [tokenizer.bos_token_id, *encode(tokenizer, sample.context), *encode(tokenizer, question.text)]
        right += _says(model, prompt, encode(tokenizer, question.target))
    return Recalled(task, length, right, contexts)


@torch.inference_mode()
def _says(model: LlamaForCausalLM, prompt: list[int], answer: list[int]) -> bool:
    """Whether greedy decoding goes on with `answer`: told by one pass, as each token's likeliest follower is it."""
    logits_LV = model(input_ids=torch.tensor([[*prompt, *answer]]), logits_to_keep=len(answer) + 1).logits[0]
    return bool(logits_LV[:-1].argmax(-1).tolist() == answer)
