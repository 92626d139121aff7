"""A decoder over paged KV, layer by layer.

Shapes: T tokens, E hidden, H query heads, G KV heads, D head dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from infergc.kernels.api import AttentionBackend, BatchLayout
from infergc.kernels.freight import Freight
from infergc.models.decoder import Decoder
from infergc.sched.plan import StepPlan
from infergc.worker.memory.storage import KVStorage, LayerGroups

# From token ids and positions, int64, to the hidden state of every token after the last norm, [T, E].
Compute = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Plans a step, of which the device learns by the freight; when that has left, the step can be computed.
Forward = Callable[[StepPlan, Freight], Compute]


@dataclass(frozen=True, slots=True)
class Layers:
    """Implements ``Forward``.

    Attributes:
        decoder: the model.
        attention: the backend that writes and reads KV.
        groups: which layer lies in which group.
        storage: KV of every layer.
    """

    decoder: Decoder
    attention: AttentionBackend
    groups: LayerGroups
    storage: KVStorage

    def __call__(self, plan: StepPlan, freight: Freight) -> Compute:
        """See ``Forward``."""
        layouts = (BatchLayout(plan.starts, plan.counts, table) for table in plan.tables)
        return partial(self.run, [self.attention.plan(layout, freight) for layout in layouts])

    def run(self, steps: Sequence[Any], token_ids_T: torch.Tensor, positions_T: torch.Tensor) -> torch.Tensor:
        """Compute a step; ``steps`` is what attention planned for each group."""
        spec = self.decoder.spec

        def attend(layer: int, q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor) -> torch.Tensor:
            step, (k_NGPD, v_NGPD) = steps[self.groups.of_layer[layer]], self.storage.layer(layer)
            self.attention.write(step, k_TGD, v_TGD, k_NGPD, v_NGPD)
            return self.attention.attend(step, q_THD, k_NGPD, v_NGPD, spec.scale, spec.windows[layer])

        return self.decoder.forward(token_ids_T, positions_T, attend)
