"""What a backend can do, as data, and why it cannot do what a model asks."""

from dataclasses import dataclass

import torch

from infergc.kernels.api import AttentionNeeds


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Limits of a backend; None means any.

    Attributes:
        devices: torch device types.
        dtypes: of q, k, v and storage.
        head_dim_step: head dims are multiples of this.
        head_dim_max: and at most this.
        page_tokens: page sizes in tokens.
        by_name_only: it serves to check results, and ``auto`` passes it over.
    """

    devices: frozenset[str] | None = None
    dtypes: frozenset[torch.dtype] | None = None
    head_dim_step: int = 1
    head_dim_max: int | None = None
    page_tokens: frozenset[int] | None = None
    by_name_only: bool = False

    def refusal(self, needs: AttentionNeeds) -> str | None:
        """Why these needs are not met, naming what is allowed; None when they are."""
        for what, value, allowed in (
            ("device", needs.device, self.devices),
            ("dtype", needs.dtype, self.dtypes),
            ("page size", needs.page_tokens, self.page_tokens),
        ):
            if allowed is not None and value not in allowed:
                return f"{what} {value} is not among {', '.join(sorted(map(str, allowed)))}"
        return self._head_dim_refusal(needs.head_dim)

    def _head_dim_refusal(self, head_dim: int) -> str | None:
        fits = head_dim % self.head_dim_step == 0
        if fits and (self.head_dim_max is None or head_dim <= self.head_dim_max):
            return None
        top = "" if self.head_dim_max is None else f" up to {self.head_dim_max}"
        return f"head dim {head_dim} is not a multiple of {self.head_dim_step}{top}"
