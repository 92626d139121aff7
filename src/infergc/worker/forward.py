"""The forward pass over paged KV: layer by layer, recorded, or all layers in one call where the kernels offer that.

Shapes: T tokens, E hidden.
"""

import torch

from infergc.kernels.api import BatchLayout
from infergc.kernels.cpu.backend import CpuAttention
from infergc.kernels.cpu.dense import CpuOps
from infergc.kernels.cpu.stack import LayerStack, StackLayer, StackShape
from infergc.kernels.freight import Freight
from infergc.kernels.triton.backend import TritonAttention
from infergc.sched.plan import StepPlan
from infergc.worker.debug.guarded import GuardedStorage
from infergc.worker.debug.guarded_forward import GuardedForward
from infergc.worker.devices.device import Device
from infergc.worker.graphs import DecodeGraphs
from infergc.worker.layers import Compute, Forward, Layers


def create_forward(layers: Layers, device: Device, max_num_seqs: int) -> Forward:
    """Choose how a step is computed, and look after it where storage is guarded."""
    forward = _where_rows(_choose(layers, device, max_num_seqs), layers.decoder.spec.hidden_size)
    return GuardedForward(forward, layers.storage) if isinstance(layers.storage, GuardedStorage) else forward


def _where_rows(forward: Forward, hidden: int) -> Forward:
    """A plan without rows is there for its moves."""

    def nothing(_: torch.Tensor, positions_T: torch.Tensor) -> torch.Tensor:
        return torch.empty(0, hidden, device=positions_T.device)

    return lambda plan, freight: forward(plan, freight) if plan.tokens else nothing


def _choose(layers: Layers, device: Device, max_num_seqs: int) -> Forward:
    if isinstance(layers.decoder.ops, CpuOps) and isinstance(layers.attention, CpuAttention):
        return _at_once(layers, layers.decoder.ops, layers.attention)
    if device.records and isinstance(layers.attention, TritonAttention):
        return DecodeGraphs(layers, layers.attention, device, max_num_seqs)
    return layers


def _at_once(layers: Layers, ops: CpuOps, attention: CpuAttention) -> Forward:
    decoder, stack = layers.decoder, _stack(layers, ops, attention)

    def forward(plan: StepPlan, freight: Freight) -> Compute:
        steps = [attention.plan(BatchLayout(plan.starts, plan.counts, table), freight) for table in plan.tables]
        return lambda token_ids_T, positions_T: stack.run(
            decoder.embed(token_ids_T), *decoder.angles(positions_T), steps
        )

    return forward


def _stack(layers: Layers, ops: CpuOps, attention: CpuAttention) -> LayerStack:
    spec, weights = layers.decoder.spec, layers.decoder.weights
    stacked = [
        StackLayer(
            layer.attention_norm_E, layer.qkv.matrix, layer.q_norm_D, layer.k_norm_D, layer.out.matrix,
            layer.mlp_norm_E, layer.gate_up.matrix, layer.down.matrix, *layers.storage.layer(index),
            layers.groups.of_layer[index], spec.windows[index],
        )
        for index, layer in enumerate(weights.layers)
    ]  # fmt: skip
    shape = StackShape(
        spec.hidden_size, spec.intermediate_size, spec.num_heads, spec.num_kv_heads, spec.head_dim, spec.rms_eps,
        spec.scale,
    )  # fmt: skip
    return LayerStack(shape, stacked, weights.norm_E, ops, attention)
