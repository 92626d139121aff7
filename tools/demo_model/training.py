"""The model's shape and the training loop.

Shapes: B rows, L tokens in a row, V vocabulary, N counted tokens of a batch, M the same and some more, E hidden.
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

from demo_model.batches import SHARES, Batch, Batches
from demo_model.muon import Muon
from demo_model.tokenizer import CONTEXT

ROPE_THETA = 1e6  # many pairs of channels then turn little over CONTEXT, and tell what stands there at any distance
FINAL_GAIN = 0.08  # of the last norm: embeddings are of size 1, and with it logits begin near 1
PEAK_RATE = 5e-3
EMBEDDING_RATE, FINAL_RATE = 2e-2, 1e-3  # of the embedding, and of the last norm's gain, which is small
SHORT_ROWS = 256  # tokens
HEAD_ROWS = 512  # logits are made for a multiple of that: for each shape of a product oneDNN keeps megabytes
WARM_UP, FLOOR = 0.02, 0.02  # shares of the run, and of the peak rate
HEAD, NORM = "model.embed_tokens.weight", "model.norm.weight"


@dataclass(frozen=True)
class Limit:
    """Where training ends: after `steps`, or after `seconds` if no number of steps is given.

    `first` is how much of a run counts as done when it begins.
    """

    seconds: float
    steps: int | None
    first: float = 0.0

    def progress(self, steps: int, seconds: float) -> float:
        """Return how much of the run is done, from `first` to 1; by steps alone, if given, so that runs repeat."""
        done = steps / self.steps if self.steps is not None else seconds / self.seconds
        return min(1.0, self.first + (1 - self.first) * done)


@dataclass(frozen=True)
class Progress:
    """One step's figures. `share` of the run is done; times in seconds; `losses` in nats per token, by kind of row."""

    share: float
    step: int
    tokens: int
    losses: dict[str, float]
    seconds: float


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
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    nn.init.normal_(model.get_input_embeddings().weight)
    nn.init.constant_(model.model.norm.weight, FINAL_GAIN)
    return model


def learning_rate(share: float) -> float:
    """Rise in a line to 1, then fall along half a cosine to FLOOR: a factor of all rates."""
    if share < WARM_UP:
        return share / WARM_UP
    wave = 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
    return FLOOR + (1 - FLOOR) * wave


def counted_losses(model: LlamaForCausalLM, ids_BL: torch.Tensor, counted_BL: torch.Tensor) -> torch.Tensor:
    """Return -log p (nats) of the counted tokens but the first of a row, each given those before it: [N], float32.

    Logits are computed for these alone: over a whole row of questions they would cost more than the layers.
    """
    followers = ids_BL[:, 1:].flatten()
    at_N = counted_BL[:, 1:].flatten().nonzero()[:, 0]
    at_M = functional.pad(at_N, (0, -len(at_N) % HEAD_ROWS))
    hidden_ME = model.model(input_ids=ids_BL[:, :-1]).last_hidden_state.flatten(0, 1)[at_M]
    losses_M = functional.cross_entropy(model.lm_head(hidden_ME).float(), followers[at_M], reduction="none")
    return losses_M[: len(at_N)]


def train(
    model: LlamaForCausalLM, batches: Batches, limit: Limit, report: Callable[[Progress], None], device: str = "cpu"
) -> Progress:
    """Train on `device` until `limit`, call `report` after every step, and return the last step's figures."""
    model.to(device)
    optimizers = _optimizers(model)
    began = time.monotonic()
    now = Progress(limit.first, 0, 0, {}, 0.0)
    while now.share < 1.0:
        batch = batches.draw(now.share)
        losses = _step(model, optimizers, batch, learning_rate(now.share), device)
        seconds, step = time.monotonic() - began, now.step + 1
        now = Progress(limit.progress(step, seconds), step, now.tokens + batch.ids.numel(), losses, seconds)
        report(now)
    model.to("cpu").set_attn_implementation("sdpa")
    return now


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Make Muon for the layers' matrices, and AdamW without decay for the embedding and the norms' gains."""
    named = dict(model.named_parameters())
    embedding, final = named.pop(HEAD), named.pop(NORM)
    adam = torch.optim.AdamW(
        [
            {"params": [embedding], "lr": EMBEDDING_RATE},
            {"params": [final], "lr": FINAL_RATE},
            {"params": [p for p in named.values() if p.ndim != 2], "lr": PEAK_RATE},
        ],
        betas=(0.9, 0.95),
        weight_decay=0.0,
    )
    optimizers = [Muon([p for p in named.values() if p.ndim == 2], lr=PEAK_RATE), adam]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _step(
    model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], batch: Batch, rate: float, device: str
) -> dict[str, float]:
    """Update once at `rate` of all peak rates, products in bf16; return the mean losses before it, by kind of row."""
    # where rows are short, attention as plain products is a quarter faster on a CPU
    model.set_attn_implementation("eager" if batch.ids.shape[1] <= SHORT_ROWS else "sdpa")
    with torch.autocast(device, torch.bfloat16):
        losses_N = counted_losses(model, batch.ids.to(device), batch.counted.to(device))
    model.zero_grad()
    torch.autograd.backward(losses_N.mean())
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["peak"]
        optimizer.step()
    return _by_kind(losses_N.detach().cpu(), batch)


def _by_kind(losses_N: torch.Tensor, batch: Batch) -> dict[str, float]:
    rows_N = batch.counted[:, 1:].nonzero()[:, 0].tolist()
    kinds = [batch.kinds[row] for row in rows_N]
    by_kind = {kind: [loss for loss, of in zip(losses_N.tolist(), kinds, strict=True) if of == kind] for kind in SHARES}
    return {kind: sum(losses) / len(losses) for kind, losses in by_kind.items() if losses}
