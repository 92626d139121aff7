"""Rotary position embedding: frequencies, and a table of cosines and sines.

Shapes: T tokens, R = head dim / 2 rotated pairs.
"""

import math
from collections.abc import Callable

import torch

from infergc.models.spec import RopeSpec

_BLOCK = 1024  # positions computed at once


class RopeTable:
    """Cosines and sines for positions 0, 1, …, grown in blocks as longer texts come.

    Values are computed in float32 and rounded to the model's dtype. A position's row is always computed in
    the same block of the same shape, so it does not depend on which texts came before (vectorised cosines
    may differ in the last bit from the ones at the end of an array).

    Args:
        spec: of the frequencies.
        head_dim: twice R.
        dtype: of the model.
        device: of the table. Off the host it has all ``whole`` positions at once: to see whether it has to grow, a
            step would have to be waited for.
        whole: positions that there will ever be.
    """

    def __init__(
        self, spec: RopeSpec, head_dim: int, dtype: torch.dtype, device: torch.device | None = None, whole: int = 0
    ) -> None:
        self._frequencies_R = inverse_frequencies(spec, head_dim)
        self._amplitude = spec.amplitude
        self._cos_PR = torch.empty(0, head_dim // 2, dtype=dtype)
        self._sin_PR = torch.empty(0, head_dim // 2, dtype=dtype)
        self._grows = device is None or device.type == "cpu"
        if not self._grows:
            self._grow(whole)
            self._cos_PR, self._sin_PR = self._cos_PR.to(device), self._sin_PR.to(device)

    def at(self, positions_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines ``[T, R]`` of these positions."""
        if self._grows and (length := int(positions_T.max()) + 1) > len(self._cos_PR):
            self._grow(length)
        return self._cos_PR[positions_T], self._sin_PR[positions_T]

    def _grow(self, length: int) -> None:
        length = max(length, 2 * len(self._cos_PR))  # doubling keeps the copying linear
        cos, sin = [self._cos_PR], [self._sin_PR]
        for start in range(len(self._cos_PR), length, _BLOCK):
            positions_B = torch.arange(start, start + _BLOCK, dtype=torch.float32)
            angles_BR = torch.outer(positions_B, self._frequencies_R)
            cos.append((angles_BR.cos() * self._amplitude).to(self._cos_PR.dtype))
            sin.append((angles_BR.sin() * self._amplitude).to(self._sin_PR.dtype))
        self._cos_PR, self._sin_PR = torch.cat(cos), torch.cat(sin)


def inverse_frequencies(spec: RopeSpec, head_dim: int) -> torch.Tensor:
    """Angle per position of each rotated pair, ``[R]`` float32.

    Raises:
        KeyError: an unknown kind; ``ROPE_KINDS`` holds the known ones.
    """
    exponents_R = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    return _SCALINGS[spec.kind](spec, 1.0 / (spec.theta**exponents_R))


def yarn_amplitude(factor: float, mscale: float = 1.0) -> float:
    """YaRN's temperature on attention, applied to cos and sin (Peng et al. 2023, section 3.4)."""
    return 1.0 if factor <= 1.0 else 0.1 * mscale * math.log(factor) + 1.0


def _default(_: RopeSpec, freq_R: torch.Tensor) -> torch.Tensor:
    return freq_R


def _linear(spec: RopeSpec, freq_R: torch.Tensor) -> torch.Tensor:
    """Position interpolation (Chen et al. 2023)."""
    return freq_R / spec.factor


def _llama3(spec: RopeSpec, freq_R: torch.Tensor) -> torch.Tensor:
    """Llama 3.1's scaling: keep short wavelengths, stretch long ones, blend between (see RopeSpec)."""
    turns_R = spec.original_len * freq_R / (2 * math.pi)
    blend_R = (turns_R - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor)
    blend_R = blend_R.clamp(0.0, 1.0)
    return (1 - blend_R) * freq_R / spec.factor + blend_R * freq_R


def _yarn(spec: RopeSpec, freq_R: torch.Tensor) -> torch.Tensor:
    """NTK-by-parts (Peng et al. 2023, section 3.2): stretch the pairs that turn slowly."""
    head_dim = 2 * len(freq_R)

    def border(turns: float) -> float:
        """The (fractional) pair that makes this many turns within original_len."""
        return head_dim * math.log(spec.original_len / (turns * 2 * math.pi)) / (2 * math.log(spec.theta))

    low, high = border(spec.beta_fast), border(spec.beta_slow)
    if spec.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = (high - low) or 0.001
    stretched_R = ((torch.arange(len(freq_R), dtype=torch.float32) - low) / width).clamp(0.0, 1.0)
    return freq_R / spec.factor * stretched_R + freq_R * (1 - stretched_R)


_SCALINGS: dict[str, Callable[[RopeSpec, torch.Tensor], torch.Tensor]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
ROPE_KINDS = tuple(_SCALINGS)
