"""The loads of a calibration: one to fit to that visits each kind of step, and another one to predict."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from infergc.bench.workload import FIRST_ID
from infergc.engine.loop import Engine
from infergc.engine.messages import Submit
from infergc.params import SamplingParams

_LONE = (1, 2, 3, 6, 12, 24, 48, 96, 192, 384, 768, 1536)  # prompts of one request: chunks of every size
_CROWDS = (2, 3, 5, 8, 12, 16, 24, 32, 48, 64, 128, 256)  # requests that decode together
_SHORT = 24  # prompt tokens of these
_LONG = ((2, 1024), (4, 512), (8, 384), (16, 128), (32, 64))  # requests and prompts: decodes that read much
_HELD_OUT = 24  # requests
MOST_OUTPUT = 64  # tokens


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: the engine's step before which it comes, prompt tokens, output tokens."""

    step: int
    input_len: int
    output_len: int


Wave = list[Arrival]  # runs until the engine is idle


def fitted_waves(most: int, longest: int) -> list[Wave]:
    """What is fitted to: lone chunks, crowds of decodes at short and long contexts, ending one after the other.

    Args:
        most: requests that run at a time.
        longest: tokens of a prompt, at most.
    """
    lone = [[Arrival(0, size, 4)] for size in _LONE if size <= longest]
    crowds = [[Arrival(0, min(_SHORT, longest), 4 + at % 8) for at in range(n)] for n in _CROWDS if n <= most]
    long = [[Arrival(0, min(size, longest), 6 + 2 * (at % 4)) for at in range(n)] for n, size in _LONG if n <= most]
    return lone + crowds + long


def held_out_waves(longest: int, seed: int) -> list[Wave]:
    """What is predicted: requests that come one by one, prompts log-normal (median 150, σ 1), outputs 8 to 64."""
    draw = random.Random(f"held-out-{seed}")  # noqa: S311 - repeatable, not secret
    wave, step = [], 0
    for _ in range(_HELD_OUT):
        prompt = min(longest, max(1, round(draw.lognormvariate(5.0, 1.0))))
        wave.append(Arrival(step, prompt, draw.randint(8, MOST_OUTPUT)))
        step += draw.randint(0, 12)
    return [wave]


def run_wave(engine: Engine, wave: Wave, name: str) -> None:
    """Give the requests at their steps and run until the engine is idle; ``name`` also seeds the prompts' tokens."""
    draw = random.Random(name)  # noqa: S311 - repeatable, not secret
    waiting = sorted(wave, key=lambda arrival: arrival.step)
    requests = iter(_requests(waiting, name, draw, engine.ready.vocab_size))
    step = 0
    while waiting or engine.has_work():
        due = [next(requests) for arrival in waiting if arrival.step <= step]
        waiting = waiting[len(due) :]
        engine.step(due)
        step += 1


def _requests(wave: Wave, name: str, draw: random.Random, vocabulary: int) -> Iterator[Submit]:
    for at, arrival in enumerate(wave):
        prompt = [draw.randrange(FIRST_ID, vocabulary) for _ in range(arrival.input_len)]
        params = SamplingParams(max_tokens=arrival.output_len, temperature=0, ignore_eos=True, seed=0)
        yield Submit(f"{name}-{at}", prompt, params)
