"""The decoder alone, with dense attention written here, against transformers."""

import math
from typing import Any

import pytest
import torch

from cpu.families import build_family
from infergc.kernels.torch_ops import TorchOps
from infergc.models.decoder import Decoder
from infergc.models.hf_config import model_spec
from infergc.models.rope import RopeTable
from infergc.models.spec import ModelSpec, RopeSpec
from infergc.models.weights import allocate, destinations, nbytes

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}


def dense_attend(spec: ModelSpec) -> Any:
    """Attention of one sequence over itself."""

    def attend(layer: int, q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor) -> torch.Tensor:
        repeat = spec.num_heads // spec.num_kv_heads
        k_THD, v_THD = k_TGD.repeat_interleave(repeat, 1), v_TGD.repeat_interleave(repeat, 1)
        distance_TT = torch.arange(len(q_THD))[:, None] - torch.arange(len(q_THD))
        hidden_TT = (distance_TT < 0) | (distance_TT >= (spec.windows[layer] or len(q_THD)))
        scores_HTT = torch.einsum("thd,shd->hts", q_THD, k_THD) * spec.scale
        return torch.einsum("hts,shd->thd", scores_HTT.masked_fill(hidden_TT, -torch.inf).softmax(-1), v_THD)

    return attend


def decoder_of(hf_model: Any) -> Decoder:
    hf_model.config.architectures = [type(hf_model).__name__]
    spec = model_spec(hf_model.config, torch.float32)
    weights = allocate(spec)
    state = hf_model.state_dict()
    for name, view in destinations(spec, weights).items():
        view.copy_(state[name])
    return Decoder(spec, weights, TorchOps())


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("llama3", {"attention_bias": True}),
        ("llama3", {"mlp_bias": True}),
        ("llama3", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
        ("llama3", {"rms_norm_eps": 0.3}),
        ("llama3", {"sliding_window": 40}),  # which Llama's code does not read
        ("mistral_window", {"layer_types": ["full_attention"] * 3}),  # nor Mistral's these
        ("qwen2", {"rope_parameters": YARN}),
        ("qwen3", {"attention_bias": True, "tie_word_embeddings": False}),
    ],
)
def test_variants_match_transformers(family: str, overrides: dict[str, Any]) -> None:
    hf_model = build_family(family, **overrides)
    decoder = decoder_of(hf_model)
    ids_T = torch.randint(131, (150,), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = hf_model(ids_T[None]).logits[0]
        found = decoder.logits(decoder.forward(ids_T, torch.arange(150), dense_attend(decoder.spec)))
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_fused_weights_are_all_there_is() -> None:
    hf_model = build_family("qwen3")  # tied
    decoder = decoder_of(hf_model)
    assert nbytes(decoder.spec) == sum(parameter.nbytes for parameter in hf_model.parameters())
    assert decoder.weights.head is decoder.weights.embedding


def test_an_id_beyond_the_vocabulary_is_an_error() -> None:
    decoder = decoder_of(build_family("llama2"))
    with pytest.raises(IndexError):
        decoder.forward(torch.tensor([131]), torch.tensor([0]), dense_attend(decoder.spec))


@pytest.mark.parametrize("steps", [[5000], [1, 1023, 1024, 1025, 3000, 5000]])
def test_rope_values_do_not_depend_on_how_the_table_grew(steps: list[int]) -> None:
    spec = RopeSpec(theta=1e4)
    table, fresh = RopeTable(spec, 20, torch.float32), RopeTable(spec, 20, torch.float32)
    for step in steps:
        table.at(torch.tensor([step]))
    positions_T = torch.arange(5000)
    for grown, whole in zip(table.at(positions_T), fresh.at(positions_T), strict=True):
        assert torch.equal(grown, whole)
    expected = math.cos(4321 * 1e4 ** (-2 * 3 / 20))  # pair 3 of a head of 20
    assert fresh.at(torch.tensor([4321]))[0][0, 3].item() == pytest.approx(expected, abs=1e-3)
