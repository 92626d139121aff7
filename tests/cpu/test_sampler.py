"""The sampler as the executor uses it: bound slots, batches of mixed requests, preemption.

Shapes: S rows, V vocabulary.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from infergc.kernels.freight import Direct
from infergc.params import ParameterError, SamplingParams
from infergc.sched.plan import Binding
from infergc.worker.sampler import Sampled, Sampler
from infergc.worker.sampling.pieces import pieces

V = 200
EOS = (3, 5)


def logits_of(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn((rows, V), generator=torch.Generator().manual_seed(seed)) * 2


def binding(slot: int, params: SamplingParams, prompt=(1, 2, 2, 7), output=()) -> Binding:
    return Binding(slot, params, np.array(prompt, np.int32), np.array(output, np.int32))


def bound(*rows: SamplingParams, prompt=(1, 2, 2, 7), output=()) -> Sampler:
    """A sampler whose slots 0, 1, … belong to these requests."""
    sampler = Sampler(max(len(rows), 8), V, EOS)
    for slot, params in enumerate(rows):
        sampler.bind(binding(slot, params, prompt, output))
    return sampler


def sample_at(sampler: Sampler, logits_SV: torch.Tensor, slots: np.ndarray, positions: np.ndarray) -> Sampled:
    return sampler.sample(logits_SV, sampler.lay_out(slots, positions, Direct("cpu")))


def sample(sampler: Sampler, logits_SV: torch.Tensor, slots=None, position: int = 4):
    slots = np.arange(len(logits_SV)) if slots is None else np.array(slots)
    return sample_at(sampler, logits_SV.clone(), slots, np.full(len(slots), position))


def adjusted(logits_V: torch.Tensor, params: SamplingParams, prompt=(1, 2, 2, 7), output=()) -> np.ndarray:
    """The oracle: one row at a time, one token at a time."""
    x = logits_V.double().numpy().copy()
    for token, bias in params.logit_bias.items():
        x[token] += bias
    for token in set(prompt) | set(output):
        x[token] = x[token] / params.repetition_penalty if x[token] > 0 else x[token] * params.repetition_penalty
    for token in output:
        x[token] -= params.frequency_penalty
    for token in set(output):
        x[token] -= params.presence_penalty
    if len(output) < params.min_tokens:
        for token in {*EOS, *params.stop_token_ids}:
            x[token] = -np.inf
    return x


some_params = st.builds(
    SamplingParams,
    min_tokens=st.integers(0, 6),
    temperature=st.sampled_from([0.0, 0.0, 0.8, 1.2]),
    top_k=st.sampled_from([0, 3, 80]),
    top_p=st.sampled_from([0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.1]),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.0, 1.3]),
    presence_penalty=st.sampled_from([-1.0, 0.0, 0.0, 1.5]),
    frequency_penalty=st.sampled_from([-0.5, 0.0, 0.0, 1.0]),
    logit_bias=st.dictionaries(st.integers(0, V - 1), st.sampled_from([-100.0, -1.5, 2.0]), max_size=3),
    seed=st.integers(0, 2**63 - 1),
    stop_token_ids=st.lists(st.integers(0, V - 1), max_size=2),
    logprobs=st.sampled_from([None, 0, 3]),
)
outputs = st.lists(st.integers(0, V - 1), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(some_params, outputs), min_size=1, max_size=6), st.integers(0, 100))
def test_logits_and_reports_equal_the_oracle(requests, seed):
    sampler = Sampler(8, V, EOS)
    for slot, (params, output) in enumerate(requests):
        sampler.bind(binding(slot, params, output=output))
    logits_SV, used_SV = logits_of(len(requests), seed), logits_of(len(requests), seed)
    positions = np.array([4 + len(output) for _, output in requests])
    tokens, reports, _ = sample_at(sampler, used_SV, np.arange(len(requests)), positions)
    for row, (params, output) in enumerate(requests):
        x = adjusted(logits_SV[row], params, output=output)
        np.testing.assert_allclose(used_SV[row].numpy(), x, rtol=1e-5, atol=1e-4)
        assert x[tokens[row]] > -np.inf
        if params.greedy:
            assert x[tokens[row]] >= x.max() - 1e-4
        assert (row in reports) == (params.logprobs is not None)
        if row in reports:
            check_report(reports[row], x, int(tokens[row]), params.logprobs)


def check_report(report, x, token, count):
    lp = x - x.max() - np.log(np.exp(x - x.max()).sum())
    order = np.argsort(-lp, kind="stable")
    assert report.sampled == pytest.approx(lp[token], abs=1e-4)
    assert report.rank == 1 + (lp > lp[token] + 1e-5).sum()
    assert report.top == pytest.approx(lp[order[:count]].tolist(), abs=1e-4)
    assert lp[list(report.top_ids)].tolist() == pytest.approx(list(report.top), abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(some_params, outputs), min_size=2, max_size=8), st.data())
def test_a_row_is_bitwise_the_same_alone_and_in_any_batch(requests, data):
    logits_SV = logits_of(len(requests))
    positions = np.array([4 + len(output) for _, output in requests])
    alone = []
    for row, (params, output) in enumerate(requests):
        sampler = Sampler(1, V, EOS)
        sampler.bind(binding(0, params, output=output))
        alone.append(sample_at(sampler, logits_SV[row : row + 1].clone(), np.array([0]), positions[row : row + 1]))
    together = Sampler(8, V, EOS)
    slots = np.array(data.draw(st.permutations(range(8))))[: len(requests)]
    for slot, (params, output) in zip(slots, requests, strict=True):
        together.bind(binding(int(slot), params, output=output))
    tokens, reports, _ = sample_at(together, logits_SV.clone(), slots, positions)
    assert tokens.tolist() == [int(token[0]) for token, *_ in alone]
    assert reports == {row: report[0] for row, (_, report, _) in enumerate(alone) if report}


@pytest.mark.parametrize("vocab_size", [4096, 50_257])
def test_the_same_alone_and_in_a_batch_at_real_vocabularies(vocab_size):
    rows = 48  # more than a chunk of the larger vocabulary
    logits_SV = torch.randn((rows, vocab_size), generator=torch.Generator().manual_seed(1)) * 3
    sampler = Sampler(rows, vocab_size)
    for slot in range(rows):
        params = SamplingParams(seed=slot, top_p=(1.0, 0.9, 0.99)[slot % 3], logprobs=2 if slot % 2 else None)
        sampler.bind(binding(slot, params))
    positions = np.arange(rows)
    tokens, reports, _ = sample_at(sampler, logits_SV.clone(), np.arange(rows), positions)
    for row in range(0, rows, 5):
        at = slice(row, row + 1)
        token, report, _ = sample_at(sampler, logits_SV[at].clone(), np.array([row]), positions[at])
        assert token[0] == tokens[row]
        assert report.get(0) == reports.get(row)


@settings(max_examples=30, deadline=None)
@given(some_params, st.integers(1, 9))
def test_a_preempted_request_goes_on_as_if_nothing_had_happened(params, cut):
    def step(sampler, slot, at):
        return int(sample_at(sampler, logits_of(1, seed=at), np.array([slot]), np.array([4 + at]))[0][0])

    undisturbed, interrupted = bound(params), bound(params)
    expected = [step(undisturbed, 0, at) for at in range(10)]
    output = [step(interrupted, 0, at) for at in range(cut)]
    interrupted.bind(binding(0, SamplingParams(repetition_penalty=2.0, logit_bias={1: 5.0})))  # another moves in
    step(interrupted, 0, 0)
    interrupted.bind(binding(6, params, output=output))
    output += [step(interrupted, 6, at) for at in range(cut, 10)]
    assert output == expected


def test_repetition_penalty_equals_that_of_transformers():
    prompt, output = (1, 2, 2, 7), (9, 9, 150)
    params = SamplingParams(repetition_penalty=1.7, temperature=0)
    logits_SV = logits_of(1)
    expected = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([[*prompt, *output]]), logits_SV.clone())
    sample_at(bound(params, output=output), logits_SV, np.array([0]), np.array([7]))
    assert torch.equal(logits_SV, expected)


def test_penalties_count_what_is_sampled():
    params = SamplingParams(temperature=0, frequency_penalty=1.0)
    sampler = bound(params)
    logits_SV = torch.zeros((1, V))
    logits_SV[0, 10], logits_SV[0, 11] = 2.5, 1.4
    tokens = [int(sample(sampler, logits_SV, position=4 + at)[0][0]) for at in range(4)]
    assert tokens == [10, 10, 11, 10]  # 2.5, 1.5, (0.5, 1.4), (0.5, 0.4)


def test_rows_without_penalties_take_no_memory():
    sampler = bound(*[SamplingParams()] * 8)
    assert len(sampler._penalties._uses_NV) == 0
    for _ in range(3):  # rows are given back when their slots go to requests without penalties
        for slot in range(8):
            sampler.bind(binding(slot, SamplingParams(presence_penalty=1.0)))
        assert len(sampler._penalties._uses_NV) == 8
        for slot in range(8):
            sampler.bind(binding(slot, SamplingParams()))


def test_greedy_takes_the_first_of_equals_and_leaves_the_logits_alone():
    logits_SV = torch.zeros((2, V))
    logits_SV[1, 40] = logits_SV[1, 90] = 1.0
    before = logits_SV.clone()
    tokens, reports, _ = sample_at(bound(*[SamplingParams(temperature=0)] * 2), logits_SV, np.arange(2), np.full(2, 4))
    assert tokens.tolist() == [0, 40]
    assert tokens.dtype == torch.int32
    assert reports == {}
    assert torch.equal(logits_SV, before)


def test_end_tokens_are_banned_until_min_tokens():
    params = SamplingParams(temperature=0, min_tokens=2, stop_token_ids=[9], ignore_eos=True)
    sampler = bound(params)
    logits_SV = torch.zeros((1, V))
    logits_SV[0, [3, 5, 9]] = 9.0
    logits_SV[0, 50] = 1.0
    assert [int(sample(sampler, logits_SV, position=4 + at)[0][0]) for at in range(3)] == [50, 50, 3]


def test_bias_reaches_its_own_row_only():
    sampler = bound(SamplingParams(temperature=0), SamplingParams(temperature=0, logit_bias={77: 100.0}))
    logits_SV = logits_of(2)
    tokens, *_ = sample(sampler, logits_SV, slots=[1, 0])
    assert tokens.tolist() == [77, int(logits_SV[1].argmax())]
    sampler.bind(binding(1, SamplingParams(temperature=0)))  # the next request has no bias
    assert sample(sampler, logits_SV)[0].tolist() == logits_SV.argmax(-1).tolist()


def test_seeds_and_positions_make_the_difference():
    def draws(seed, positions):
        sampler = bound(SamplingParams(seed=seed))
        return [int(sample(sampler, logits_of(1), position=p)[0][0]) for p in positions]

    assert draws(1, range(20)) == draws(1, range(20))
    assert draws(1, range(20)) != draws(2, range(20))
    assert len(set(draws(1, range(20)))) > 5
    assert draws(None, range(20)) == draws(0, range(20))


def test_a_broken_row_gives_a_valid_token_and_harms_no_other():
    params = [SamplingParams(seed=1, top_k=5), SamplingParams(seed=1, top_p=0.9), SamplingParams(temperature=0)]
    logits_SV = logits_of(3)
    healthy = sample(bound(*params), logits_SV)[0]
    logits_SV[1] = torch.nan
    tokens = sample(bound(*params), logits_SV)[0]
    assert 0 <= tokens[1] < V
    assert tokens[[0, 2]].tolist() == healthy[[0, 2]].tolist()
    logits_SV[1] = -torch.inf
    assert 0 <= sample(bound(*params), logits_SV)[0][1] < V


def test_no_rows():
    tokens, reports, _ = sample_at(bound(SamplingParams()), torch.zeros((0, V)), np.zeros(0, int), np.zeros(0, int))
    assert len(tokens) == 0
    assert reports == {}


def test_ids_outside_the_vocabulary_are_refused_and_change_nothing():
    sampler = bound(SamplingParams(temperature=0))
    for params in (SamplingParams(logit_bias={V: 1.0}), SamplingParams(stop_token_ids=[V])):
        with pytest.raises(ParameterError, match=rf"{V} is not a token id of this model; ids are 0 to {V - 1}"):
            sampler.bind(binding(0, params))
    assert sample(sampler, logits_of(1))[0].tolist() == logits_of(1).argmax(-1).tolist()


def test_a_vocabulary_that_is_too_large():
    with pytest.raises(ValueError, match="vocab_size: 4194305 is not allowed; it must be ≤ 4194304"):
        Sampler(1, (1 << 22) + 1)


def test_rows_of_a_large_vocabulary_are_worked_on_a_few_at_a_time() -> None:
    """Penalties, draw and report together touch no more than a few rows at once, and no row depends on its piece."""
    vocab_size, rows = 100_000, 7  # two rows a piece
    params = [SamplingParams(temperature=0.7, repetition_penalty=1.3, logprobs=2, seed=row) for row in range(rows)]
    logits_SV = torch.randn((rows, vocab_size), generator=torch.Generator().manual_seed(0))
    together = Sampler(rows, vocab_size, EOS)
    for slot, each in enumerate(params):
        together.bind(binding(slot, each))
    tokens_S, reports, _ = sample_at(together, logits_SV.clone(), np.arange(rows), np.full(rows, 4))
    for row, each in enumerate(params):
        alone = Sampler(1, vocab_size, EOS)
        alone.bind(binding(0, each))
        token_S, report, _ = sample_at(alone, logits_SV[row : row + 1].clone(), np.arange(1), np.full(1, 4))
        assert (int(token_S[0]), report[0]) == (int(tokens_S[row]), reports[row])
    assert [piece.tolist() for piece in pieces(np.arange(rows), vocab_size)] == [[0, 1], [2, 3], [4, 5], [6]]
    assert [piece.tolist() for piece in pieces(np.arange(2), 1 << 22)] == [[0], [1]]
