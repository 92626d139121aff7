"""Where training starts: random weights, with a rough induction circuit written into two layers of attention.

To retrieve, a model has to find induction (C. Olsson et al., "In-context Learning and Induction Heads", 2022): one
layer gathers the tokens before each position, a later one looks for a position behind the same tokens as the last ones,
and copies what stands there. From random weights it had not appeared after half a million tokens, of which a CPU reads
some ten million an hour; written in roughly, it answers the easier tasks at the first step, and training goes on from
there with all weights. Starting attention near a good form: A. Trockman and J. Z. Kolter, "Mimetic Initialization of
Self-Attention Layers" (2023). The exact form, which needs no training, is in docs/induction-model.md.

Channels of the residual stream: a token's own code, the codes of the two tokens before it, and one that is constant.
"""

from __future__ import annotations

import math

import torch
from transformers import LlamaForCausalLM

GATHER, LOOK_UP = 0, 2  # layers
CODE = 63  # channels of a gathered code
OWN = slice(0, 128)
BEFORE = (slice(128, 128 + CODE), slice(128 + CODE, 128 + 2 * CODE))  # one token before, two tokens before
CONSTANT = 255
OTHERS = 0.25  # standard deviation of an embedding outside OWN, where it is 1 inside
LEVEL = 4.0  # of the constant channel
FAST_PAIRS = 10  # of rotated channels, by which a head tells one place from the next
SHARPNESS = 1.2  # of queries and keys there: the place meant is 4 nats above the next, 13 above the one behind that
SLOWEST = 5e-4  # radians a token: pairs that turn slower tell what a token is, at distances of 1,000 and more
MATCH, OLDER = 2.0, 0.7  # of queries and keys for the last token, and the weight of the one before it
GATHERED, COPIED = 0.8, 1.0  # scale of what the two layers write


def write_induction(model: LlamaForCausalLM) -> None:
    """Write the circuit over parts of the weights; random projections are drawn from torch's random state.

    What it does not need stays random: where queries and keys were both zero, no gradient would ever move them.
    """
    with torch.no_grad():
        embedding_VD = model.get_input_embeddings().weight
        embedding_VD[:, OWN.stop :] *= OTHERS
        embedding_VD[:, CONSTANT] = LEVEL
        projection_PD = _own_code(CODE)
        _gather(model, projection_PD)
        _look_up(model, projection_PD)


def _gather(model: LlamaForCausalLM, projection_PD: torch.Tensor) -> None:
    """Let the first two heads look one and two places back, and write the codes found there to BEFORE."""
    attention, size = model.model.layers[GATHER].self_attn, model.config.head_dim
    turns = _turns(model)[:FAST_PAIRS]
    keys_HD, values_HD = attention.k_proj.weight[:size], attention.v_proj.weight[:size]
    keys_HD[:FAST_PAIRS, CONSTANT] = SHARPNESS
    values_HD[:CODE] = projection_PD
    for head, channels in enumerate(BEFORE):
        queries_HD = attention.q_proj.weight[head * size : (head + 1) * size]
        for pair, turn in enumerate(turns):  # a key turned back by so many places
            queries_HD[pair, CONSTANT] = SHARPNESS * math.cos(turn * (head + 1))
            queries_HD[size // 2 + pair, CONSTANT] = -SHARPNESS * math.sin(turn * (head + 1))
        output_DH = attention.o_proj.weight[:, head * size : (head + 1) * size]
        output_DH[channels, :CODE] = GATHERED * torch.eye(CODE)


def _look_up(model: LlamaForCausalLM, projection_PD: torch.Tensor) -> None:
    """Let every head look for positions that stand behind the last two tokens, and copy the code found there."""
    attention, size = model.model.layers[LOOK_UP].self_attn, model.config.head_dim
    slow = [pair for pair, turn in enumerate(_turns(model)) if turn < SLOWEST]
    channels = torch.tensor([*slow, *(size // 2 + pair for pair in slow)])
    first_PD, second_PD = (torch.eye(model.config.hidden_size)[at] for at in BEFORE)  # what reads a gathered code
    groups = model.config.num_key_value_heads
    shared = model.config.num_attention_heads // groups
    for group in range(groups):
        last_CP, older_CP = (_orthonormal(len(channels), CODE) for _ in BEFORE)
        query_CD = MATCH * (last_CP @ projection_PD + OLDER * older_CP @ first_PD)
        key_CD = MATCH * (last_CP @ first_PD + OLDER * older_CP @ second_PD)
        keys = slice(group * size, (group + 1) * size)
        attention.k_proj.weight[keys.start + channels] = key_CD
        code_HD = _own_code(size)
        attention.v_proj.weight[keys] = code_HD
        for head in range(group * shared, (group + 1) * shared):
            queries = slice(head * size, (head + 1) * size)
            attention.q_proj.weight[queries.start + channels] = query_CD
            attention.o_proj.weight[:, queries] = COPIED * code_HD.T


def _turns(model: LlamaForCausalLM) -> list[float]:
    """Return by how many radians RoPE turns each pair of channels from one token to the next."""
    pairs = model.config.head_dim // 2
    base = model.config.rope_parameters["rope_theta"]
    return [base ** (-pair / pairs) for pair in range(pairs)]


def _own_code(rows: int) -> torch.Tensor:
    """Draw a projection of the residual stream's OWN channels to `rows`, with orthonormal rows: [rows, D]."""
    code_PD = torch.zeros(rows, CONSTANT + 1)
    code_PD[:, OWN] = _orthonormal(rows, OWN.stop)
    return code_PD


def _orthonormal(rows: int, columns: int) -> torch.Tensor:
    """Draw a matrix whose rows, or columns if those are fewer, are orthonormal."""
    tall: torch.Tensor = torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns))).Q
    return tall if rows > columns else tall.T
