"""A byte-level BPE tokenizer with a chat template: nothing is ever out of vocabulary, and digits stand alone."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from demo_model.conversations import Message

BOS, END, PAD = "<|bos|>", "<|end|>", "<|pad|>"
ROLES = ("system", "user", "assistant")
SPECIAL_TOKENS = [BOS, END, PAD, *(f"<|{role}|>" for role in ROLES)]  # ids 0, 1, 2, …
CONTEXT = 4096

# Roles are checked, so that a misspelt one is an error and not a token the model has never seen.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message.role not in ['system', 'user', 'assistant'] %}
{{- raise_exception('role must be system, user or assistant, got ' + message.role) }}
{%- endif %}
{{- '<|' + message.role + '|>' + message.content + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}
"""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train on `texts`: at most `vocabulary` tokens, fewer where the texts have too few pairs to merge.

    Encoding puts `<|bos|>` first; the chat template writes its own, so encode its output without specials.
    """
    bpe = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, SPECIAL_TOKENS.index(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Return the token ids of `text` without `<|bos|>`."""
    ids: list[int] = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def encode_chat(tokenizer: PreTrainedTokenizerFast, messages: list[Message]) -> list[int]:
    """Return the token ids of a conversation as the chat template renders it."""
    turns = [{"role": role, "content": content} for role, content in messages]
    return encode(tokenizer, str(tokenizer.apply_chat_template(turns, tokenize=False)))
