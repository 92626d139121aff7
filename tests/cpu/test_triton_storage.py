"""Storage whose pages are moved by Triton's kernel, as a GPU's are: the same bytes as on the host, for any list."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu import triton_interpreter  # noqa: F401 - Triton interprets from here on
from cpu.move_plans import PAGES, TOKENS, copies, mixed, plans, same, storage_on
from infergc.heap.errors import StorageLost
from infergc.heap.moves import Move
from infergc.worker.devices.copies import independent, kernel_copies
from infergc.worker.devices.device import HostDevice
from infergc.worker.memory.moving import ATTEMPTS, make


class KernelDevice(HostDevice):
    """The host, but that its pages are moved as a GPU's."""

    def __init__(self) -> None:
        self.calls: list[int] = []  # moves of each
        self._copies = kernel_copies()

    def move(self, arena_L2NGPD: torch.Tensor, moves: Sequence[Move]) -> None:
        self.calls.append(len(moves))
        self._copies(arena_L2NGPD, moves)


@settings(max_examples=40)
@given(plans, st.sampled_from([torch.float16, torch.float32]))
def test_any_plan_gives_what_the_host_gives_move_by_move(moves: tuple[Move, ...], dtype: torch.dtype) -> None:
    ours, theirs, made = (storage_on(device, dtype) for device in (KernelDevice(), HostDevice(), KernelDevice()))
    ours.apply(moves)
    for move in moves:
        theirs.apply((move,))
    assert same(ours, theirs)
    make(moves, made.apply)
    assert same(made, theirs)


def test_a_swap_of_two_pages_through_a_third() -> None:
    ours, theirs = storage_on(KernelDevice()), storage_on(HostDevice())
    k_NGPD, _ = theirs.layer(1)
    swapped = k_NGPD.clone()
    swapped[[1, 2, 0]] = swapped[[2, 1, 1]]
    ours.apply(tuple(Move("copy", 1, src, dst, TOKENS) for src, dst in ((1, 0), (2, 1), (0, 2))))
    assert torch.equal(ours.layer(1)[0].view(torch.int16), swapped.view(torch.int16))


def test_what_is_independent_is_one_launch() -> None:
    device = KernelDevice()
    storage = storage_on(device)
    forks = [Move("copy", 0, 0, dst, 5) for dst in (1, 2, 3)]  # of one page, whose first tokens three texts share
    others = [Move("copy", 0, 4, 5, TOKENS), Move("copy", 1, 0, 1, TOKENS), Move("copy", 1, 1, 2, TOKENS)]
    make((*forks, *others), storage.apply)
    assert device.calls == [4, 1, 1]


def touches(move: Move, earlier: Sequence[Move]) -> bool:
    """Whether a copy reads or writes what one of these writes, or writes what one of them reads."""
    written, read = {other.dst for other in earlier}, {other.src for other in earlier}
    return move.src in written or move.dst in written | read


@settings(max_examples=400)
@given(st.lists(copies, min_size=1, max_size=8) | mixed)
def test_pieces_are_independent_and_as_long_as_can_be(moves: Sequence[Move]) -> None:
    count, first = independent(moves), moves[0]
    piece = moves[:count]
    assert count == 1 or {(move.kind, move.group) for move in piece} == {("copy", first.group)}
    assert not any(touches(move, piece[:at]) for at, move in enumerate(piece))
    if count < len(moves) and first.kind == "copy":
        following = moves[count]
        assert (following.kind, following.group) != ("copy", first.group) or touches(following, piece)


@given(plans.filter(bool))
def test_what_is_made_at_once_may_be_made_twice(moves: tuple[Move, ...]) -> None:
    count = independent(moves)
    assert 1 <= count <= len(moves)
    once, twice = storage_on(HostDevice()), storage_on(HostDevice())
    once.apply(moves[:count])
    twice.apply(moves[:count])
    twice.apply(moves[:count][::-1])
    assert same(once, twice)


@settings(max_examples=25)
@given(plans.filter(bool), st.integers(0, 5), st.booleans())
def test_a_failure_half_way_changes_nothing(moves: tuple[Move, ...], at: int, late: bool) -> None:
    """Before the call that makes some moves, or when it has made them: the outcome is that of one clean pass."""
    ours, theirs, calls = storage_on(KernelDevice()), storage_on(HostDevice()), [0]

    def fails_once(some: tuple[Move, ...]) -> None:
        calls[0] += 1
        if calls[0] == at + 1 and not late:
            raise MemoryError("for a test")
        ours.apply(some)
        if calls[0] == at + 1:
            raise MemoryError("for a test")

    make(moves, fails_once)
    theirs.apply(moves)
    assert same(ours, theirs)


def test_what_cannot_be_moved_is_named() -> None:
    def fails(_: tuple[Move, ...]) -> None:
        raise MemoryError("for a test")

    with pytest.raises(
        StorageLost, match=r"for a test, while 1 pages of group 1 were to be moved \(copy\) from 3 to 4"
    ):
        make((Move("copy", 1, 3, 4, TOKENS),), fails)
    assert ATTEMPTS == 3


def test_moves_beyond_storage_are_refused_before_any_is_made() -> None:
    ours, untouched = storage_on(KernelDevice()), storage_on(HostDevice())
    with pytest.raises(ValueError, match=f"storage has {PAGES} pages of {TOKENS}"):
        ours.apply((Move("copy", 0, 0, 1, TOKENS), Move("copy", 0, PAGES, 1, TOKENS)))
    assert same(ours, untouched)
