"""The forward pass over paged KV: layer by layer, or all layers in one call where the kernels offer that.

Shapes: T tokens, E hidden, H query heads, G KV heads, D head dim.
"""

from collections.abc import Callable

import torch

from infergc.kernels.api import AttentionBackend, BatchLayout
from infergc.kernels.cpu.backend import CpuAttention
from infergc.kernels.cpu.dense import CpuOps
from infergc.kernels.cpu.stack import LayerStack, StackLayer, StackShape
from infergc.models.decoder import Decoder
from infergc.sched.plan import StepPlan
from infergc.worker.batch import Batch
from infergc.worker.guarded import GuardedStorage
from infergc.worker.guarded_forward import GuardedForward
from infergc.worker.storage import KVStorage, LayerGroups

Forward = Callable[[StepPlan, Batch], torch.Tensor]  # the hidden state of every token after the last norm, [T, E]


def create_forward(decoder: Decoder, attention: AttentionBackend, groups: LayerGroups, storage: KVStorage) -> Forward:
    """Choose how a step is computed, and look after it where storage is guarded."""
    forward = _where_rows(_create(decoder, attention, groups, storage), decoder.spec.hidden_size)
    return GuardedForward(forward, storage) if isinstance(storage, GuardedStorage) else forward


def _where_rows(forward: Forward, hidden: int) -> Forward:
    """A plan without rows is there for its moves."""
    return lambda plan, batch: (
        forward(plan, batch) if plan.tokens else torch.empty(0, hidden, device=batch.positions_T.device)
    )


def _create(decoder: Decoder, attention: AttentionBackend, groups: LayerGroups, storage: KVStorage) -> Forward:
    if isinstance(decoder.ops, CpuOps) and isinstance(attention, CpuAttention):
        return _at_once(decoder, decoder.ops, attention, groups, storage)
    return _layer_by_layer(decoder, attention, groups, storage)


def _layer_by_layer(decoder: Decoder, attention: AttentionBackend, groups: LayerGroups, storage: KVStorage) -> Forward:
    spec = decoder.spec

    def forward(plan: StepPlan, batch: Batch) -> torch.Tensor:
        steps = [attention.plan(BatchLayout(plan.starts, plan.counts, table)) for table in plan.tables]

        def attend(layer: int, q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor) -> torch.Tensor:
            step, (k_NGPD, v_NGPD) = steps[groups.of_layer[layer]], storage.layer(layer)
            attention.write(step, k_TGD, v_TGD, k_NGPD, v_NGPD)
            return attention.attend(step, q_THD, k_NGPD, v_NGPD, spec.scale, spec.windows[layer])

        return decoder.forward(batch.token_ids_T, batch.positions_T, attend)

    return forward


def _at_once(
    decoder: Decoder, ops: CpuOps, attention: CpuAttention, groups: LayerGroups, storage: KVStorage
) -> Forward:
    stack = _stack(decoder, ops, attention, groups, storage)

    def forward(plan: StepPlan, batch: Batch) -> torch.Tensor:
        steps = [attention.plan(BatchLayout(plan.starts, plan.counts, table)) for table in plan.tables]
        return stack.run(decoder.embed(batch.token_ids_T), *decoder.angles(batch.positions_T), steps)

    return forward


def _stack(
    decoder: Decoder, ops: CpuOps, attention: CpuAttention, groups: LayerGroups, storage: KVStorage
) -> LayerStack:
    spec, weights = decoder.spec, decoder.weights
    layers = [
        StackLayer(
            layer.attention_norm_E, layer.qkv.matrix, layer.q_norm_D, layer.k_norm_D, layer.out.matrix,
            layer.mlp_norm_E, layer.gate_up.matrix, layer.down.matrix, *storage.layer(index),
            groups.of_layer[index], spec.windows[index],
        )
        for index, layer in enumerate(weights.layers)
    ]  # fmt: skip
    shape = StackShape(
        spec.hidden_size, spec.intermediate_size, spec.num_heads, spec.num_kv_heads, spec.head_dim, spec.rms_eps,
        spec.scale,
    )  # fmt: skip
    return LayerStack(shape, layers, weights.norm_E, ops, attention)
