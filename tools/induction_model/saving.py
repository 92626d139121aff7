"""Writes the model's directory: weights, configuration, and a tokenizer whose tokens are the bytes."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from demo_model.saving import replacing, update_json
from induction_model.circuit import INNER, Array, Layout
from induction_model.shape import BOS, END, PAD, SPECIAL_TOKENS, Shape


def save(tensors: dict[str, Array], shape: Shape, dtype: torch.dtype, out: Path) -> int:
    """Write the directory, whole or not at all, and return the number of parameters."""
    model = _model(tensors, shape).to(dtype)
    logging.disable_progress_bar()
    with replacing(out) as folder:
        model.save_pretrained(folder)
        _tokenizer(shape).save_pretrained(folder)
        # fields that readers older than transformers 5 look for
        update_json(folder / "config.json", {"rope_theta": shape.theta, "torch_dtype": str(dtype).partition(".")[2]})
        (folder / "model.safetensors").chmod(0o644)  # written as private, unlike the others
    return int(model.num_parameters())


def _model(tensors: dict[str, Array], shape: Shape) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=Layout(shape).hidden,
        intermediate_size=INNER,
        num_hidden_layers=len(shape.gathering) + 1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    model = LlamaForCausalLM(config)
    filled = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    filled |= {name: torch.from_numpy(value) for name, value in tensors.items()}
    model.load_state_dict(filled)
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=[END], pad_token_id=PAD, do_sample=False)
    return model


def _tokenizer(shape: Shape) -> PreTrainedTokenizerFast:
    """Encoding puts ``<|bos|>`` first, where the circuit needs it."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIAL_TOKENS, *letters]
    names += [f"<|{token}|>" for token in range(len(names), shape.vocab)]
    backend = Tokenizer(models.BPE(vocab={name: token for token, name in enumerate(names)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    bos = SPECIAL_TOKENS[BOS]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=SPECIAL_TOKENS[END],
        pad_token=SPECIAL_TOKENS[PAD],
        model_max_length=shape.context,
        clean_up_tokenization_spaces=False,
    )
