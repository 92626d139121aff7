"""The three scenarios' requests: of recorded traces where they are at hand, else made to their lengths.

What is made: lengths drawn between the deciles of the recorded ones (Azure's conversations of 2023, and Mooncake's of
8k to 32k tokens), input and output apart. Nothing is shared but scenario 3's system prompt.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from infergc.bench.gpu.section import Setting
from infergc.bench.scenarios.systems import Load
from infergc.bench.scenarios.workloads import (
    JUDGED_SHARE,
    Sizes,
    Traces,
    behind,
    concurrent,
    long_contexts,
    system_tokens,
    together,
)
from infergc.sim.draws import Draws
from infergc.sim.requests import TraceRequest
from infergc.units import ceil_div

SIZES = Sizes(long=24, many=256, seats=128)
SMALL = Sizes(long=3, many=16, seats=8, quick=True)
_SCALE = 16  # lengths of a quick run are divided by this
_CONVERSATION = (  # deciles, from the least to the most
    (2, 368, 390, 404, 738, 1025, 1076, 1144, 1412, 4077, 14050),
    (7, 49, 69, 85, 96, 116, 165, 379, 399, 424, 1000),
)
_LONG = (
    (8195, 9178, 10329, 11701, 13203, 14895, 16708, 18939, 22224, 26575, 32768),
    (1, 24, 119, 239, 314, 362, 403, 451, 505, 609, 2000),
)


def load_of(number: int, setting: Setting) -> Load:
    """A scenario's requests, all of which come at once."""
    sizes = SMALL if setting.quick else SIZES
    if setting.traces is not None:
        traces = Traces(setting.traces)
        load = together(long_contexts(traces, sizes)) if number == 1 else concurrent(traces, sizes)
    else:
        count, deciles = (sizes.long, _LONG) if number == 1 else (sizes.many, _CONVERSATION)
        load = Load(tuple(_made(count, deciles)), sizes.seats)
    if setting.quick:
        load = replace(load, requests=tuple(map(_shorter, load.requests)))
    return behind(load, system_tokens(load.requests, JUDGED_SHARE)) if number == 3 else _unlike(load)


def prompts_of(load: Load, vocab: int) -> list[list[int]]:
    """Token ids: equal blocks are equal tokens, others differ in their first ones."""
    return [_spelled(request, vocab) for request in load.requests]


def _made(count: int, deciles: Sequence[Sequence[int]]) -> list[TraceRequest]:
    draws, at = Draws("gpu-scenarios", count), np.linspace(0, 1, 11)
    drawn = [[round(float(np.interp(draws.share(), at, column))) for column in deciles] for _ in range(count)]
    return [TraceRequest(0.0, prompt, output) for prompt, output in drawn]


def _shorter(request: TraceRequest) -> TraceRequest:
    lengths = (ceil_div(length, _SCALE) for length in (request.input_len, request.output_len))
    return TraceRequest(0.0, *lengths, request.blocks, ceil_div(request.block_tokens, _SCALE))


def _unlike(load: Load) -> Load:
    """What shares nothing gets a block of its own, so that its prompt can be spelled."""
    new = max((block for request in load.requests for block in request.blocks), default=-1) + 1
    spelled = [
        request if request.blocks else replace(request, blocks=(new + at,), block_tokens=request.input_len)
        for at, request in enumerate(load.requests)
    ]
    return replace(load, requests=tuple(spelled))


def _spelled(request: TraceRequest, vocab: int) -> list[int]:
    """Each block begins with the digits of its number; ids that may be special are left out."""
    least, digits = 10, vocab - 10
    row = np.full((len(request.blocks), request.block_tokens), least)
    numbers = np.array(request.blocks)
    for place in range(min(4, request.block_tokens)):
        row[:, place] += numbers // digits**place % digits
    return row.ravel()[: request.input_len].tolist()
