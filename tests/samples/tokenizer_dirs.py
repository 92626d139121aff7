"""Small tokenizers of the kinds that decoder models use, trained here, and directories that hold them."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXT = [
    "The quick brown fox jumps over the lazy dog. \n\n\tdef f(x):\n    return x  # indented",
    "Übergrößenträger, naïve façade, señor; 你好世界。こんにちは世界 안녕하세요",
    "😀😃👩‍👩‍👧 family, flags 🇩🇪🇯🇵, math ∑∫√, arrows →←, and again the quick brown fox",
]
KINDS = ("byte-level", "sentencepiece", "metaspace", "words")
BOS, EOS, TURN = "<s>", "</s>", "<|turn|>"


def build(kind: str) -> Tokenizer:
    """A trained tokenizer whose first ids are bos, eos, and a special token for turns."""
    return {
        "byte-level": _byte_level, "sentencepiece": _sentencepiece, "metaspace": _metaspace, "words": _words
    }[kind]()  # fmt: skip


def save(kind: str, path: Path, **config: object) -> Path:
    """A directory with tokenizer.json and tokenizer_config.json."""
    path.mkdir(parents=True, exist_ok=True)
    build(kind).save(str(path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS} | config
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def _byte_level() -> Tokenizer:
    """As Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, trainers.BpeTrainer(
        vocab_size=420, special_tokens=[BOS, EOS, TURN], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ))  # fmt: skip
    tokenizer.post_processor = _bos_first()
    tokenizer.add_tokens([AddedToken(" padded word", normalized=False)])
    return tokenizer


def _sentencepiece() -> Tokenizer:
    """As Llama 2 and Mistral: a space is ▁, and what has no token is spelled in bytes."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # only Latin text, so that the rest falls back to bytes
    tokenizer.train_from_iterator(
        TEXT[:1], trainers.BpeTrainer(vocab_size=400, special_tokens=[BOS, EOS, TURN, "<unk>", *byte_tokens],
                                      show_progress=False),
    )  # fmt: skip
    return _unmark_bytes(tokenizer, byte_tokens)


def _unmark_bytes(tokenizer: Tokenizer, byte_tokens: list[str]) -> Tokenizer:
    """Byte tokens are ordinary entries of the vocabulary, not special ones."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in byte_tokens]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = _bos_first()
    return tokenizer


def _metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    _train(tokenizer, trainers.UnigramTrainer(
        vocab_size=150, special_tokens=[BOS, EOS, TURN, "<unk>"], unk_token="<unk>", show_progress=False
    ))  # fmt: skip
    return tokenizer


def _words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    _train(tokenizer, trainers.WordLevelTrainer(special_tokens=[BOS, EOS, TURN, "<unk>"], show_progress=False))
    return tokenizer


def _train(tokenizer: Tokenizer, trainer: trainers.Trainer) -> None:
    tokenizer.train_from_iterator(TEXT, trainer)


def _bos_first() -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
