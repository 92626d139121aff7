"""How few tokens a text can have, told from its size: an over-long prompt need not be tokenised to be refused.

Each token stands for a stretch of the normalised text, so a text has at least (bytes / bytes of the longest
token) tokens. That needs every byte of the text to reach a token, which many kinds of tokenizer do not
promise: they strip blanks, fold characters, or make one "unknown" token of a whole run. Only what is known to
keep every byte gets a bound.
"""

from collections.abc import Mapping
from typing import Any

import tokenizers

_NFC_SHRINKS = 4  # over all of Unicode 3.5 at most: U+1FBE U+0308 U+0301, 7 bytes, become the 2 of U+0390
_BYTES = 256


def most_bytes_per_token(backend: tokenizers.Tokenizer, spec: Mapping[str, Any]) -> int | None:
    """The most bytes of UTF-8 text that one token can stand for; None where there is no such limit.

    Args:
        backend: the tokenizer with all its added tokens.
        spec: its tokenizer.json.
    """
    shrinks = _shrinking(spec.get("normalizer"))
    added = backend.get_added_tokens_decoder().values()
    if shrinks is None or not _keeps_all(spec) or any(token.lstrip or token.rstrip for token in added):
        return None
    names = [*backend.get_vocab(), *(_normalized(backend, token.content) for token in added)]
    # a token's name has at least the bytes it stands for: ▁ more than a blank, <0xE2> more than the byte
    return shrinks * max((len(name.encode()) for name in names), default=0) or None


def _normalized(backend: tokenizers.Tokenizer, text: str) -> str:
    return text if backend.normalizer is None else backend.normalizer.normalize_str(text)


def _shrinking(normalizer: Mapping[str, Any] | None) -> int | None:
    """By what factor at most a text's bytes become fewer; None if unknown."""
    match normalizer:
        case None | {"type": "Prepend"}:
            return 1
        case {"type": "NFC"}:
            return _NFC_SHRINKS
        case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
            return 1 if len(new.encode()) >= len(old.encode()) else None
        case {"type": "Sequence", "normalizers": [*steps]}:
            product = 1
            for factor in map(_shrinking, steps):
                if factor is None:
                    return None
                product *= factor
            return product
    return None


def _keeps_all(spec: Mapping[str, Any]) -> bool:
    """Whether all of a normalised text ends up in tokens that stand for it byte by byte."""
    model, splitter = spec.get("model") or {}, spec.get("pre_tokenizer")
    affixed = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    if model.get("type") != "BPE" or affixed or not _splits_only(splitter):
        return False
    names = model.get("vocab", {})
    if _byte_level(splitter):
        return all(name in names for name in tokenizers.pre_tokenizers.ByteLevel.alphabet())
    return bool(model.get("byte_fallback")) and all(f"<0x{byte:02X}>" in names for byte in range(_BYTES))


def _splits_only(splitter: Mapping[str, Any] | None) -> bool:
    """Whether a pre-tokenizer cuts a text without leaving any of it out."""
    match splitter:
        case None | {"type": "ByteLevel" | "Metaspace" | "Digits"}:
            return True
        case {"type": "Split", "behavior": str(behavior)}:
            return behavior != "Removed"
        case {"type": "Sequence", "pretokenizers": [*steps]}:
            return all(map(_splits_only, steps))
    return False


def _byte_level(splitter: Mapping[str, Any] | None) -> bool:
    match splitter:
        case {"type": "ByteLevel"}:
            return True
        case {"type": "Sequence", "pretokenizers": [*steps]}:
            return any(map(_byte_level, steps))
    return False
