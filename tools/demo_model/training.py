"""The model's shape, the training loop and the measure on held-out text.

Shapes: B rows, L tokens in a row, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo_model.batches import BODY_LENGTHS, TAIL_LENGTHS, Batches
from demo_model.corpus import Book
from demo_model.muon import Muon
from demo_model.tokenizer import CONTEXT, encode

PEAK_RATE = 5e-3
WARM_UP, FLOOR = 0.04, 0.02  # shares of the run, and of the peak rate
TAIL_FROM = 0.85  # long rows from here on


@dataclass(frozen=True)
class Limit:
    """Where training ends: after `steps`, or after `seconds` if no number of steps is given."""

    seconds: float
    steps: int | None

    def progress(self, steps: int, seconds: float) -> float:
        """Return how much of the run is done, in [0, 1]; by steps alone, if given, so that runs repeat."""
        done = steps / self.steps if self.steps is not None else seconds / self.seconds
        return min(1.0, done)


@dataclass(frozen=True)
class Progress:
    """One step's figures. `share` of the run is done; `loss` in nats per token; times in seconds."""

    share: float
    step: int
    tokens: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class HeldOut:
    """How well held-out text is predicted, over rows of `row` tokens."""

    row: int
    tokens: int
    perplexity: float
    bits_per_byte: float


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Make a Llama with fresh weights from torch's random state: 5.5 M parameters at a vocabulary of 4096."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def learning_rate(share: float) -> float:
    """Rise in a line to PEAK_RATE, then fall along half a cosine to FLOOR of it."""
    if share < WARM_UP:
        return PEAK_RATE * (share / WARM_UP)
    wave = 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
    return PEAK_RATE * (FLOOR + (1 - FLOOR) * wave)


def token_losses(model: nn.Module, ids_BL: torch.Tensor) -> torch.Tensor:
    """Return -log p (nats) of tokens 1 … L-1, each given those before it: [B·(L-1)], float32."""
    logits_BLV = model(input_ids=ids_BL[:, :-1]).logits
    return functional.cross_entropy(logits_BLV.flatten(0, 1), ids_BL[:, 1:].flatten(), reduction="none")


def train(model: nn.Module, batches: Batches, limit: Limit, report: Callable[[Progress], None]) -> Progress:
    """Train until `limit`, call `report` after every step, and return the last step's figures."""
    optimizers = _optimizers(model)
    body, tail = batches.cycle(BODY_LENGTHS), batches.cycle(TAIL_LENGTHS)
    began = time.monotonic()
    now = Progress(0.0, 0, 0, math.nan, 0.0)
    while now.share < 1.0:
        ids_BL = next(body if now.share < TAIL_FROM else tail)
        loss = _step(model, optimizers, ids_BL, learning_rate(now.share))
        seconds, step = time.monotonic() - began, now.step + 1
        now = Progress(limit.progress(step, seconds), step, now.tokens + ids_BL.numel(), loss, seconds)
        report(now)
    return now


def _optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Make Muon for the layers' matrices, and AdamW without decay for the embedding and the norms' gains."""
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if p.ndim == 2 and "embed_tokens" not in name]
    others = [p for name, p in named.items() if p.ndim != 2 or "embed_tokens" in name]
    adam = torch.optim.AdamW(others, lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    return [Muon(matrices, lr=PEAK_RATE), adam]


def _step(model: nn.Module, optimizers: list[torch.optim.Optimizer], ids_BL: torch.Tensor, rate: float) -> float:
    """Update once at learning rate `rate`; return the mean loss before it."""
    loss = token_losses(model, ids_BL).mean()
    model.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return loss.item()


@torch.inference_mode()
def measure(model: nn.Module, tokenizer: PreTrainedTokenizerFast, books: list[Book], row: int) -> HeldOut:
    """Predict every held-out token once, in rows of at most `row` tokens that each begin with `<|bos|>`."""
    nats, tokens, size = 0.0, 0, 0
    for book in books:
        text = "\n\n".join(book.held_out)
        ids = encode(tokenizer, text)
        for at in range(0, len(ids), row - 1):
            ids_BL = torch.tensor([[tokenizer.bos_token_id, *ids[at : at + row - 1]]])
            nats += token_losses(model, ids_BL).sum().item()
        tokens += len(ids)
        size += len(text.encode())
    return HeldOut(row, tokens, math.exp(nats / tokens), nats / math.log(2) / size)
