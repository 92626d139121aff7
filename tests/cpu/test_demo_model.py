"""The bundled model is what its card says, and chats; what it recalls is in test_demo_recall.py."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
FILES = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} | {
    "tokenizer_config.json"
}
# Public domain: the openings of Pride and Prejudice (trained on) and of A Christmas Carol (never seen).
SEEN = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in "
    "want of a wife. However little known the feelings or views of such a man may be on his first entering "
    "a neighbourhood, this truth is so well fixed in the minds of the surrounding families, that he is "
    "considered the rightful property of some one or other of their daughters."
)
UNSEEN = (
    "Marley was dead: to begin with. There is no doubt whatever about that. The register of his burial was "
    "signed by the clergyman, the clerk, the undertaker, and the chief mourner. Scrooge signed it. And "
    "Scrooge's name was good upon 'Change, for anything he chose to put his hand to. Old Marley was as dead "
    "as a door-nail."
)

pytestmark = pytest.mark.usefixtures("one_thread")
OPENINGS = (
    "It was a dark night, and",
    "The captain of the ship",
    "She looked at him, and said that",
    "In the morning the old man went",
    "My dear friend,",
)
CHAT = [
    {"role": "system", "content": "You speak as in Moby Dick."},
    {"role": "user", "content": "Who is the captain?"},
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(DEMO)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()


def perplexity(model: LlamaForCausalLM, ids: list[int]) -> float:
    ids_1L = torch.tensor([ids])
    with torch.inference_mode():
        return math.exp(model(input_ids=ids_1L, labels=ids_1L).loss.item())


def greedy(model: LlamaForCausalLM, ids: list[int], tokens: int) -> list[int]:
    ids_1L = torch.tensor([ids])
    mask = torch.ones_like(ids_1L)
    drawn = model.generate(
        ids_1L, attention_mask=mask, max_new_tokens=tokens, do_sample=False, temperature=None, top_p=None
    )
    return drawn[0, len(ids) :].tolist()


def test_the_folder_is_complete_and_small() -> None:
    assert {f.name for f in DEMO.iterdir()} == FILES
    assert sum(f.stat().st_size for f in DEMO.iterdir()) <= 14e6


def test_the_shape_is_a_small_llama_with_grouped_heads() -> None:
    config = json.loads((DEMO / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["num_attention_heads"] > config["num_key_value_heads"] > 1
    assert config["max_position_embeddings"] >= 4096
    with safe_open(DEMO / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
        assert {weights.get_slice(name).get_dtype() for name in names} == {"BF16"}
    assert "lm_head.weight" not in names
    assert config["tie_word_embeddings"]


def test_the_vocabulary_fits_the_weights(tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> None:
    assert len(tokenizer) == model.config.vocab_size == model.get_input_embeddings().num_embeddings
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert ends == (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id)
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]


@pytest.mark.parametrize(
    "text",
    ["", " ", "a  b\n\n\tc", "naïve — “quotes”", "鯨は海に、кит в море, 🐋👩🏽‍🚀", "\x00\x7f\u200d\ufeff"],
)
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text


def test_the_chat_template_renders_its_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    rendered = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert rendered == (
        "<|bos|><|system|>You speak as in Moby Dick.<|end|><|user|>Who is the captain?<|end|><|assistant|>"
    )
    ids = tokenizer.encode(rendered, add_special_tokens=False)
    assert len([i for i in ids if i in tokenizer.all_special_ids or i < 6]) == 6
    assert tokenizer.decode(ids) == rendered


def test_the_chat_template_refuses_unknown_roles(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(Exception, match="role must be system, user or assistant, got tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


@pytest.mark.parametrize(("text", "bound"), [(SEEN, 60.0), (UNSEEN, 120.0)])
def test_english_is_predicted_far_better_than_by_chance(
    tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM, text: str, bound: float
) -> None:
    assert perplexity(model, tokenizer.encode(text)) < bound < len(tokenizer) / 8


def test_late_positions_are_usable(tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> None:
    """The last sentence of a prompt near 4,096 tokens is predicted, too: long rows were trained on."""
    filler = tokenizer.encode(SEEN + "\n\n" + UNSEEN + "\n\n", add_special_tokens=False)
    ids = [tokenizer.bos_token_id, *(filler * 40)][:4090]
    with torch.inference_mode():
        logits_LV = model(input_ids=torch.tensor([ids])).logits[0, -257:-1]
    loss = torch.nn.functional.cross_entropy(logits_LV, torch.tensor(ids[-256:]))
    assert math.exp(loss.item()) < len(tokenizer) / 8


def test_greedy_text_varies(tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> None:
    """It falls into loops, as small models do, but hardly ever into short ones."""
    distinct = [len(set(greedy(model, tokenizer.encode(opening), 48))) for opening in OPENINGS]
    assert sum(distinct) / len(distinct) >= 8
    assert min(distinct) >= 4


def test_a_chat_answer_ends_by_itself(tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> None:
    torch.manual_seed(0)
    rendered = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    ids_1L = torch.tensor([tokenizer.encode(rendered, add_special_tokens=False)])
    drawn = model.generate(ids_1L.repeat(8, 1), attention_mask=torch.ones_like(ids_1L).repeat(8, 1), max_new_tokens=200)
    answers = drawn[:, ids_1L.shape[1] :]
    assert (answers == tokenizer.eos_token_id).any(dim=1).sum() >= 2


def test_the_card_states_its_facts() -> None:
    card = (DEMO / "README.md").read_text()
    for fact in (
        "seed",
        "tokens",
        "wall time",
        "perplexity",
        "public domain",
        "no GPU",
        "rough induction circuit",
        "## Recall",
        "4,096 tokens",
        "variable-tracking",
        "Apache-2.0",
        "Limits",
    ):
        assert fact in card
    assert "not recorded" not in card
