"""Plans laid out as tensors, against the same thing said token by token."""

import numpy as np
import pytest
import torch

from cpu.plans import Row, plan_of
from infergc.sched.plan import FROM_DEVICE
from infergc.worker.batch import lay_out_batch
from infergc.worker.devices.device import HostDevice

LATEST = torch.tensor([100, 101, 102, 103], dtype=torch.int32)


def test_a_mixed_step() -> None:
    rows = [
        Row(slot=2, start=30, tokens=[FROM_DEVICE], sample=True),
        Row(slot=0, start=16, tokens=[5, 6, 7], sample=False),
        Row(slot=3, start=0, tokens=[8, 9], sample=True),
        Row(slot=1, start=4, tokens=[4], sample=True),
    ]
    batch = lay_out_batch(plan_of(rows), HostDevice().freight())
    assert batch.token_ids(LATEST).tolist() == [102, 5, 6, 7, 8, 9, 4]
    assert batch.positions_T.tensor.tolist() == [30, 16, 17, 18, 0, 1, 4]
    assert batch.sampled_R.tolist() == [0, 2, 3]
    assert batch.last_tokens_R.tensor.tolist() == [0, 5, 6]
    assert batch.slots_R.tolist() == [2, 3, 1]
    assert batch.next_positions_R.tolist() == [31, 2, 5]


@pytest.mark.parametrize("seed", range(20))
def test_random_steps_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        Row(int(slot), int(rng.integers(100)), _tokens(rng), bool(rng.integers(2)))
        for slot in rng.permutation(4)[: rng.integers(1, 5)]
    ]
    batch = lay_out_batch(plan_of(rows), HostDevice().freight())
    known = [int(LATEST[row.slot]) if token == FROM_DEVICE else token for row in rows for token in row.tokens]
    assert batch.token_ids(LATEST).tolist() == known
    assert batch.positions_T.tensor.tolist() == [row.start + i for row in rows for i in range(len(row.tokens))]
    sampled = [row for row in rows if row.sample]
    assert [rows[r] for r in batch.sampled_R] == sampled
    assert batch.slots_R.tolist() == [row.slot for row in sampled]
    assert batch.positions_T.tensor[batch.last_tokens_R.tensor].tolist() == [
        row.start + len(row.tokens) - 1 for row in sampled
    ]
    assert batch.next_positions_R.tolist() == [row.start + len(row.tokens) for row in sampled]


def _tokens(rng: np.random.Generator) -> list[int]:
    tokens = rng.integers(0, 100, rng.integers(1, 6)).tolist()
    return [*tokens[:-1], FROM_DEVICE] if rng.integers(2) else tokens
