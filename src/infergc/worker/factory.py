"""Building the executor from the engine's configuration."""

import os
import sys

import torch

from infergc.config import EngineConfig
from infergc.engine.ports import ModelFacts
from infergc.kernels.api import AttentionNeeds
from infergc.kernels.registry import create_attention
from infergc.models.decoder import Decoder
from infergc.models.numerics import BatchInvariant
from infergc.worker.dtypes import name
from infergc.worker.executor import TorchExecutor
from infergc.worker.ledger import check_kv_fits, memory_ledger
from infergc.worker.loader import LoadedModel, load_model
from infergc.worker.storage import LayerGroups, layer_groups


def create_executor(config: EngineConfig) -> TorchExecutor:
    """Load the model and set up its executor; sets torch's number of threads for the process.

    Raises:
        ModelError: the model directory cannot be used.
        ConfigError: the KV cache does not fit this machine's memory, or ``--deterministic`` cannot be kept on it.
    """
    threads = config.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    model = load_model(config.model, config.dtype, progress=sys.stderr.isatty())
    memory = memory_ledger(model.spec, config.max_num_batched_tokens, config.max_num_seqs)
    check_kv_fits(config.kv_cache_memory, memory)
    groups = layer_groups(model.spec, config.block_size)
    needs = AttentionNeeds(
        device="cpu",
        dtype=model.spec.dtype,
        num_heads=model.spec.num_heads,
        num_kv_heads=model.spec.num_kv_heads,
        head_dim=model.spec.head_dim,
        page_tokens=config.block_size,
    )
    return TorchExecutor(
        decoder=_decoder(model, deterministic=config.deterministic),
        facts=_facts(model, groups, memory),
        groups=groups,
        attention=create_attention(config.attention_backend, needs, threads),
        page_tokens=config.block_size,
    )


def _decoder(model: LoadedModel, *, deterministic: bool) -> Decoder:
    if not deterministic:
        return Decoder(model.spec, model.weights)
    numerics = BatchInvariant(linear.weight for linear in model.weights.linears())
    return Decoder(model.spec, model.weights, numerics)


def _facts(model: LoadedModel, groups: LayerGroups, memory: dict[str, int]) -> ModelFacts:
    return ModelFacts(
        digest=model.digest,
        vocab_size=model.spec.vocab_size,
        eos_ids=model.eos_ids,
        max_len=model.spec.max_len,
        groups=groups.specs,
        dtype=name(model.spec.dtype),
        memory=memory,
    )
