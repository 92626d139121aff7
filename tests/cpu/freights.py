"""What any device has to keep to in what is sent to it."""

from collections.abc import Iterable

import numpy as np

from infergc.worker.devices.device import Device


def check_what_is_sent_arrives(device: Device, sizes: Iterable[int]) -> None:
    """Whatever is sent after it: send a freight of each size, of which more than there are stages, and look only then.

    No stage may be written while it is copied. The caller keeps the device busy.
    """
    rng = np.random.default_rng(0)
    sent = [
        [rng.integers(0, 1000, size * 7 + 1), rng.random((size, 3)).astype(np.float32), np.zeros(0, np.int32)]
        for size in sizes
    ]
    arrived = []
    for arrays in sent:
        freight = device.freight()
        arrived.append([freight.add(array) for array in arrays])
        freight.send()
    for arrays, parcels in zip(sent, arrived, strict=True):
        for array, parcel in zip(arrays, parcels, strict=True):
            assert parcel.tensor.device == device.place
            np.testing.assert_array_equal(parcel.tensor.cpu().numpy(), array)
