"""What a step's sampling sends to a device, and what its host waits for: all in one copy, and next to nothing.

Shapes: S rows, V vocabulary.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu.test_sampler import EOS, V, binding, logits_of, outputs, some_params
from infergc import StructuredOutputs
from infergc.kernels.freight import Direct, Freight
from infergc.params import SamplingParams
from infergc.sched.prompt_spans import PromptSpan
from infergc.worker.sampler import Asked, Sampled, Sampler
from infergc.worker.sampling.prompts import lay_out_prompts, report_prompts
from samples import tokenizer_dirs
from samples.far_device import FarDevice, Packed, PackedAway

SLOTS = 5
ADJUSTED = {"logit_bias": {7: 1.5}, "min_tokens": 9, "repetition_penalty": 1.2, "frequency_penalty": 0.5}


def far(
    *rows: SamplingParams, steps: int = 2, model_dir: Path | None = None, vocab_size: int = V
) -> tuple[FarDevice, PackedAway]:
    """Steps of these requests where the host can read nothing; their texts are counted in the first."""
    sampler = Sampler(len(rows), vocab_size, EOS, "meta", model_dir)
    for slot, params in enumerate(rows):
        sampler.bind(binding(slot, params, output=(4, 9) if slot % 2 else ()))
    freight, device = PackedAway(), FarDevice()
    try:
        for at in range(steps):
            asked = sampler.lay_out(np.arange(len(rows)), np.full(len(rows), 6 + at), freight)
            freight.send()
            with device:
                tokens_S = sampler.sample(torch.empty((len(rows), vocab_size), device="meta"), asked).tokens
            assert tokens_S.is_meta
            assert (tokens_S.dtype, len(tokens_S)) == (torch.int32, len(rows))
    finally:
        sampler.close()
    return device, freight


def test_a_step_without_wide_nuclei_reports_or_grammars_waits_for_nothing() -> None:
    drawn = [{}, {"top_k": 40}, {"top_k": 64, "top_p": 0.9, "min_p": 0.1}, {"min_p": 0.2}]
    rows = [SamplingParams(temperature=0), SamplingParams(temperature=0, **ADJUSTED)]
    rows += [SamplingParams(**knobs, **also) for knobs in drawn for also in ({}, ADJUSTED)]
    device, freight = far(*rows)
    assert (device.waits, device.copies, freight.sent) == (0, 0, 2)


@pytest.mark.parametrize(
    "knobs", [{"top_p": 0.9}, {"top_k": 65}, {"logprobs": 3}, {"logprobs": 0, "temperature": 0.0}], ids=str
)
def test_a_nucleus_and_a_report_take_one_wait_a_step(knobs: dict[str, Any]) -> None:
    device, freight = far(*[SamplingParams(**knobs, **ADJUSTED)] * 3, SamplingParams(temperature=0))
    assert (device.waits, device.copies, freight.sent) == (2, 0, 2)


def test_a_grammar_takes_a_wait_and_a_copy_of_its_bits(tmp_path: Path) -> None:
    tokenizer_dirs.save("byte-level", tmp_path)
    vocab_size = tokenizer_dirs.build("byte-level").get_vocab_size()
    letters = SamplingParams(structured_outputs=StructuredOutputs(regex=".*"), temperature=0)
    device, freight = far(letters, SamplingParams(), letters, steps=1, model_dir=tmp_path, vocab_size=vocab_size)
    assert (device.waits, device.copies, freight.sent) == (1, 0, 2)


def test_reports_of_prompts_take_one_wait_for_the_logits_made_at_once() -> None:
    rows, vocab_size, freight = 30, 100_000, PackedAway()  # 20 rows make 8 MiB of logits
    told = lay_out_prompts([PromptSpan(0, 2, 1, np.arange(rows, dtype=np.int32), 4)], freight)
    freight.send()
    hidden_TE = torch.empty((rows + 5, 8), device="meta")
    with FarDevice() as device:
        found = report_prompts(told, hidden_TE, lambda x_NE: x_NE.new_empty((len(x_NE), vocab_size)), vocab_size)
    assert [len(reports) for reports in found.values()] == [rows]
    assert (device.waits, device.copies) == (2, 0)


def test_what_the_host_reads_and_sends_is_seen() -> None:
    there = torch.zeros(3, device="meta")
    with FarDevice() as device:
        there + 1.0
        assert (device.waits, device.copies) == (0, 0)
        there.tolist(), there.cpu(), bool((there > 0).any()), (there > 0).nonzero()
        assert device.waits == 4
        torch.from_numpy(np.zeros(3)).to("meta"), there[torch.arange(2)]
        assert device.copies == 2


def sample_by(freight: Freight, sampler: Sampler, logits_SV: torch.Tensor, positions: np.ndarray) -> Sampled:
    asked = sampler.lay_out(np.arange(len(logits_SV)), positions, freight)
    freight.send()
    return sampler.sample(logits_SV, asked)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(some_params, outputs), min_size=1, max_size=6), st.integers(0, 100))
def test_what_is_packed_gives_the_same_bits(requests: list[Any], seed: int) -> None:
    direct, packed = Sampler(8, V, EOS), Sampler(8, V, EOS)
    for slot, (params, output) in enumerate(requests):
        for sampler in (direct, packed):
            sampler.bind(binding(slot, params, output=output))
    positions = np.array([4 + len(output) for _, output in requests])
    for at in range(3):
        ours_SV, expected_SV = logits_of(len(requests), seed + at), logits_of(len(requests), seed + at)
        ours = sample_by(Packed(), packed, ours_SV, positions + at)
        expected = sample_by(Direct("cpu"), direct, expected_SV, positions + at)
        assert torch.equal(ours_SV, expected_SV)
        assert ours.tokens.tolist() == expected.tokens.tolist()
        assert ours.reports == expected.reports


class Texts:
    """Slots of one sampler, and for each what its text would be in a sampler that has nothing else."""

    def __init__(self) -> None:
        self.sampler = Sampler(SLOTS, V, EOS)
        self.texts: dict[int, tuple[SamplingParams, list[int]]] = {}

    def bind(self, slot: int, params: SamplingParams, output: list[int]) -> None:
        self.texts[slot] = params, list(output)
        self.sampler.bind(binding(slot, params, output=output))

    def lay_out(self, slots: list[int], freight: Freight) -> Asked:
        positions = [4 + len(self.texts[slot][1]) for slot in slots]
        return self.sampler.lay_out(np.array(slots), np.array(positions), freight)

    def alone(self, slot: int, logits_1V: torch.Tensor) -> Sampled:
        params, output = self.texts[slot]
        other = Sampler(1, V, EOS)
        other.bind(binding(0, params, output=output))
        return sample_by(Direct("cpu"), other, logits_1V, np.array([4 + len(output)]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_slots_bound_anew_do_not_mix_with_steps_that_were_laid_out_before(data: st.DataObject) -> None:
    """Whatever was bound and not sampled, and whoever had the row of counts before."""
    texts, freight = Texts(), Packed()
    some = st.lists(st.tuples(st.integers(0, SLOTS - 1), some_params, outputs), max_size=4)
    for step in range(data.draw(st.integers(1, 6))):
        for each in data.draw(some):
            texts.bind(*each)
        if not texts.texts:
            continue
        slots = data.draw(st.lists(st.sampled_from(sorted(texts.texts)), unique=True, min_size=1))
        asked = texts.lay_out(slots, freight)
        freight.send()
        logits_SV = logits_of(len(slots), step)
        expected = [texts.alone(slot, logits_SV[row : row + 1].clone()) for row, slot in enumerate(slots)]
        before = {slot: texts.texts[slot][1] for slot in slots}
        for each in data.draw(some):
            texts.bind(*each)
        tokens = texts.sampler.sample(logits_SV, asked).tokens.tolist()
        assert tokens == [int(each.tokens[0]) for each in expected]
        for slot, token in zip(slots, tokens, strict=True):
            before[slot].append(token)
