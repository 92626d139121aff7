"""Devices as their makers' data sheets have them, and how much of that is reached.

Peaks are of dense bfloat16 products with float32 sums, bandwidth and memory as printed (1 GB is 10⁹ bytes).
What is reached is the same share of the peak everywhere, since few devices are measured in public:

- ``BANDWIDTH_SHARE``: gpt-fast's README calls 1700 GB/s the most that an A100 of 2039 GB/s gives.
- ``PRODUCT_SHARE``: Pope et al., Efficiently Scaling Transformer Inference (2022), reach 76 % of the peak in large
  prefills; a little less is taken, for chunks of some thousand tokens.
- ``ATTENTION_SHARE``: Dao, FlashAttention-2 (2023), reaches 50 to 73 % on an A100; Shah et al., FlashAttention-3
  (2024), up to 75 % on an H100.
- ``LAYER_SECONDS``: norms, rotation, gaps between kernels. gpt-fast decodes Llama-2-7B at 104.9 tokens a second on
  that A100; reading the weights takes 7.8 ms of those 9.5, and the rest is shared out over 32 layers.
- ``LINK_SHARE``: nvbandwidth copies 24.8 GB/s from host to an A100 over PCIe 4.0 x16 (NVIDIA's developer forum, thread
  352186), which carries 31.5 one way by its standard: 16 GT/s on each of 16 lanes, 128 of 130 bits.
"""

from dataclasses import dataclass

from infergc.config import ConfigError
from infergc.sim.catalog import unknown
from infergc.sim.geometry import Geometry
from infergc.units import format_bytes

BANDWIDTH_SHARE = 1700 / 2039
PRODUCT_SHARE = 0.7
ATTENTION_SHARE = 0.6
LAYER_SECONDS = 55e-6
LINK_SHARE = 24.8 / 31.5
KV_SHARE = 0.9  # of the memory is for weights and KV: what vLLM takes by default

_TERA, _GIGA = 10**12, 10**9
_PCIE_4, _PCIE_5 = 31.5, 63.0  # GB/s of 16 lanes one way


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator.

    Attributes:
        name: as on the command line.
        flops: floating-point operations a second, at most.
        bandwidth: bytes a second from its memory, at most.
        memory: bytes.
        link: bytes a second to the host or from it, at most: PCIe x16 in each case.
        product_share, attention_share, bandwidth_share, link_share: what matrix products, attention, reading and
            copies between device and host reach of that.
        layer_seconds: of each layer of a step, whatever it computes.
    """

    name: str
    flops: float
    bandwidth: float
    memory: int
    link: float
    product_share: float = PRODUCT_SHARE
    attention_share: float = ATTENTION_SHARE
    bandwidth_share: float = BANDWIDTH_SHARE
    link_share: float = LINK_SHARE
    layer_seconds: float = LAYER_SECONDS

    def room_for_kv(self, model: Geometry, share: float = KV_SHARE) -> int:
        """Bytes left for KV beside the model's weights.

        Args:
            model: whose weights lie there.
            share: of the memory that both may take; the rest is for activations and libraries.

        Raises:
            ConfigError: the weights alone are more.
        """
        room = int(self.memory * share) - model.weight_bytes
        if room <= 0:
            raise ConfigError(
                f"--device: {self.name} has {format_bytes(int(self.memory * share))} for weights and KV, and the "
                f"weights of {model.name} take {format_bytes(model.weight_bytes)} in {model.dtype}"
            )
        return room


def _device(name: str, teraflops: float, gigabytes_a_second: float, gigabytes: int, link: float) -> Device:
    return Device(name, teraflops * _TERA, gigabytes_a_second * _GIGA, gigabytes * _GIGA, link * _GIGA)


_LISTED = (
    _device("a100-40g", 312, 1555, 40, _PCIE_4),
    _device("a100-80g", 312, 2039, 80, _PCIE_4),
    _device("h100-80g", 989, 3350, 80, _PCIE_5),
    _device("h200", 989, 4800, 141, _PCIE_5),
    _device("mi300x", 1307, 5300, 192, _PCIE_5),
    _device("l4", 121, 300, 24, _PCIE_4),
    _device("l40s", 362, 864, 48, _PCIE_4),
    _device("a10g", 70, 600, 24, _PCIE_4),
    _device("rtx-4090", 165, 1008, 24, _PCIE_4),
)
DEVICES = {device.name: device for device in _LISTED}


def device_named(name: str) -> Device:
    """A device of the data sheets.

    Raises:
        ConfigError: there is none of that name; the message lists all and the nearest.
    """
    device = DEVICES.get(name.lower())
    if device is None:
        raise ConfigError(f"--device: {unknown(name, DEVICES, 'a file of infergc bench calibrate')}")
    return device
