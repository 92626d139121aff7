"""Grammars of slots beside each other: whom a step waits for, and what stays of one that failed."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher

from infergc import SamplingParams, StructuredOutputs
from infergc.kernels.freight import Direct
from infergc.sched.plan import Binding
from infergc.worker.sampling.compiled import CompiledGrammars
from infergc.worker.sampling.constraints import Constraints, LostError
from infergc.worker.sampling.masks import ban, ban_there
from samples import tokenizer_dirs
from samples.far_device import Packed

V = tokenizer_dirs.build("byte-level").get_vocab_size()
SLOW = StructuredOutputs(regex="slow")
LETTERS = StructuredOutputs(regex="[a-z]+")


class Slow(CompiledGrammars):
    """Takes as long over one grammar as it is told to."""

    go_on = Event()

    def matcher(self, outputs: StructuredOutputs) -> LLMatcher:
        if outputs == SLOW:
            assert self.go_on.wait(60)
        return super().matcher(outputs)


@pytest.fixture
def constraints(tmp_path: Path) -> Iterator[Constraints]:
    tokenizer_dirs.save("byte-level", tmp_path)
    Slow.go_on.clear()
    made = Constraints(4, V, Slow(tmp_path, V, (1,)))
    yield made
    Slow.go_on.set()
    made.close()


def bind(constraints: Constraints, slot: int, outputs: StructuredOutputs) -> None:
    none = np.empty(0, np.int32)
    constraints.bind(Binding(slot, SamplingParams(structured_outputs=outputs), none, none))


def step(constraints: Constraints, *slots: int) -> torch.Tensor:
    logits = torch.zeros((len(slots), V))
    assert not constraints.mask(logits, np.array(slots), Direct("cpu"))
    last = V - 1 - logits.flip(-1).argmax(-1)  # of those that may come; the first would be the end token
    constraints.follow(np.array(slots), last.numpy().astype(np.int32))
    return logits


@pytest.mark.timeout(60)
def test_a_step_waits_for_the_grammars_of_its_rows_alone(constraints: Constraints) -> None:
    bind(constraints, 0, LETTERS)
    bind(constraints, 1, SLOW)
    for _ in range(3):
        assert step(constraints, 0).isneginf().any()
    Slow.go_on.set()
    both = step(constraints, 0, 1)
    assert both[1].isfinite().sum() < both[0].isfinite().sum()


@given(st.integers(1, 6), st.sampled_from([1, 31, 32, 200, 100_003]), st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_bits_ban_the_same_tokens_on_a_device(rows: int, vocab_size: int, beyond: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows_C = rng.permutation(rows)[: rng.integers(1, rows + 1)].astype(np.int64)
    words = -(-(vocab_size + beyond) // 32)
    banned_CW = rng.integers(-(2**31), 2**31, (len(rows_C), words)).astype(np.int32)
    here_SV, there_SV = torch.zeros((2, rows, vocab_size))
    ban(here_SV, rows_C, banned_CW, Direct("cpu"))
    freight = Packed()
    ban_there(there_SV, rows_C, banned_CW, freight)
    assert torch.equal(here_SV, there_SV)
    assert freight.sent == 1
    for row, banned_W in zip(rows_C, banned_CW, strict=True):
        expected = [bool(banned_W[token // 32] >> (token % 32) & 1) for token in range(min(vocab_size, 200))]
        assert here_SV[row, :200].isneginf().tolist() == expected
    others = sorted(set(range(rows)) - set(rows_C.tolist()))
    assert not here_SV[others].any()


def test_a_slot_bound_anew_has_the_masks_of_its_own_text(constraints: Constraints) -> None:
    for _ in range(30):
        bind(constraints, 0, LETTERS)
        letters = step(constraints, 0)
        bind(constraints, 0, StructuredOutputs(regex="[0-9]"))
        digits = step(constraints, 0)
        assert not (letters.isfinite() & digits.isfinite()).any()


def test_a_step_that_failed_leaves_no_logits_behind(constraints: Constraints, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    bind(constraints, 0, LETTERS)
    monkeypatch.setattr(constraints, "_consume", refuse)
    step(constraints, 0)
    logits = torch.zeros((1, V))
    seen = weakref.ref(logits)
    with pytest.raises(LostError, match="out of memory"):
        constraints.mask(logits, np.array([0]), Direct("cpu"))
    del logits
    gc.collect()
    assert seen() is None
