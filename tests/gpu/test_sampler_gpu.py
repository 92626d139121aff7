"""Sampling on a GPU: what the host samples, and without waiting for the GPU where nothing has to be known."""

import numpy as np
import pytest
import torch

from cpu.test_sampler import EOS, V, binding, logits_of
from cpu.test_sampler_freight import ADJUSTED
from infergc.params import SamplingParams
from infergc.worker.devices.cuda_device import CudaDevice
from infergc.worker.devices.device import Device, HostDevice
from infergc.worker.sampler import Sampled, Sampler
from samples.gpu_here import needs_gpu

pytestmark = needs_gpu
CYCLES = 1_000_000_000  # of a GPU's clock: some 500 ms that it is busy
DRAWN = [{}, {"top_k": 40}, {"top_k": 64, "top_p": 0.9, "min_p": 0.1}, {"min_p": 0.2}]
NEAR = [SamplingParams(temperature=0), SamplingParams(temperature=0, **ADJUSTED)]
NEAR += [SamplingParams(seed=7, **knobs, **also) for knobs in DRAWN for also in ({}, ADJUSTED)]


def bound(device: Device, rows: list[SamplingParams]) -> Sampler:
    sampler = Sampler(len(rows), V, EOS, device.place)
    for slot, params in enumerate(rows):
        sampler.bind(binding(slot, params, output=(4, 9)))
    return sampler


def step(device: Device, sampler: Sampler, logits: torch.Tensor, position: int) -> Sampled:
    freight, rows = device.freight(), len(logits)
    asked = sampler.lay_out(np.arange(rows), np.full(rows, position), freight)
    freight.send()
    return sampler.sample(logits, asked)


@pytest.mark.parametrize("knobs", [{}, {"top_p": 0.9}, {"top_k": 100}], ids=str)
def test_adjusted_logits_and_reports_are_those_of_the_host(knobs: dict[str, float]) -> None:
    """Draws may differ where exp does in its last bit; so texts go on with the likeliest tokens."""
    rows = [SamplingParams(temperature=0, logprobs=5, **ADJUSTED), SamplingParams(temperature=0, logprobs=2)]
    rows += [SamplingParams(seed=3, **knobs, logprobs=0)]  # last: whatever it draws concerns no other
    host, gpu = HostDevice(), CudaDevice()
    here, there = bound(host, rows), bound(gpu, rows)
    for at in range(4):
        gpu_logits, host_logits = logits_of(3, at).to(gpu.place), logits_of(3, at)
        ours, theirs = step(gpu, there, gpu_logits, 6 + at), step(host, here, host_logits, 6 + at)
        torch.testing.assert_close(gpu_logits.cpu(), host_logits, rtol=1e-5, atol=1e-5)
        assert ours.tokens.tolist()[:2] == theirs.tokens.tolist()[:2]
        assert 0 <= int(ours.tokens[2]) < V
        for row in (0, 1):
            assert ours.reports[row].top_ids == theirs.reports[row].top_ids
            assert ours.reports[row].top == pytest.approx(theirs.reports[row].top, abs=1e-4)


def test_the_host_goes_on_while_the_gpu_is_busy() -> None:
    device = CudaDevice()
    sampler, logits = Sampler(len(NEAR), V, EOS, device.place), logits_of(len(NEAR)).to(device.place)
    for _ in range(6):  # kernels are loaded, and all the memory is there that steps take in turn
        for slot, params in enumerate(NEAR):
            sampler.bind(binding(slot, params, output=(4, 9)))
        torch.cuda.synchronize()
        torch.cuda._sleep(CYCLES)
        busy = device.fence()
        sampled = step(device, sampler, logits.clone(), 6)
        went_on = not busy.query()
    assert went_on
    assert all(0 <= token < V for token in sampled.tokens.tolist())
