"""What goes to a device in one copy is found there again."""

import numpy as np
import pytest
import torch

from infergc.kernels.freight import Crate, Direct, Parcel

KINDS = (np.int32, np.int64, np.float32, np.float64, np.uint8, np.bool_)


def arrays_of(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(rng.integers(1, 12)):
        shape = tuple(rng.integers(0, 7, rng.integers(1, 4)))
        made.append((rng.random(shape) * 200).astype(KINDS[rng.integers(len(KINDS))]))
    return [array.T if rng.integers(2) else array for array in made]  # not all contiguous


@pytest.mark.parametrize("seed", range(20))
def test_arrays_are_found_in_a_copy_of_the_bytes(seed: int) -> None:
    arrays, crate = arrays_of(seed), Crate()
    parcels = [crate.add(array) for array in arrays]
    memory = np.full(crate.size + 8, 77, np.uint8)
    crate.fill(memory[: crate.size])
    assert (memory[crate.size :] == 77).all()
    there = torch.from_numpy(memory[: crate.size].copy())
    crate.unpack(there)
    for array, parcel in zip(arrays, parcels, strict=True):
        assert parcel.tensor.shape == array.shape
        np.testing.assert_array_equal(parcel.tensor.numpy(), array)
        assert parcel.tensor.numel() == 0 or (parcel.tensor.data_ptr() - there.data_ptr()) % 16 == 0


def test_nothing_can_be_read_before_the_freight_has_left() -> None:
    with pytest.raises(AssertionError, match="the freight has not left yet"):
        _ = Crate().add(np.zeros(3)).tensor
    parcel = Parcel()
    parcel.arrive(torch.ones(2))
    assert parcel.tensor.tolist() == [1.0, 1.0]


def test_on_the_host_nothing_is_copied() -> None:
    array, freight = np.arange(6), Direct("cpu")
    parcel = freight.add(array)
    assert parcel.tensor.data_ptr() == array.ctypes.data
    freight.send()
    assert parcel.tensor.tolist() == array.tolist()
