"""From the strings of a vocabulary to the bytes they stand for.

A text is the concatenation of its tokens' bytes, read as UTF-8; only the first token of a text may lose
a leading space. That holds for byte-level BPE and for SentencePiece-like vocabularies, which is what
decoder language models use, and it lets text be made token by token at constant cost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infergc.text.files import TokenizerError

Piece = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class PieceRule:
    """How a vocabulary writes bytes: ``inner`` for any token, ``opening`` for the first one of a text."""

    inner: Piece
    opening: Piece


def piece_rule(decoder: Mapping[str, Any] | None) -> PieceRule:
    """The rule of a tokenizer.json's ``decoder``.

    Raises:
        TokenizerError: the decoder is of another kind.
    """
    if decoder is None:
        return PieceRule(inner=lambda token: b" " + token.encode(), opening=str.encode)
    kind = decoder.get("type")
    if kind == "ByteLevel":
        return PieceRule(_byte_level, _byte_level)
    if kind == "Metaspace":
        return _metaspace(decoder)
    if kind == "Sequence":
        steps = decoder["decoders"]
        return piece_rule(steps[0]) if len(steps) == 1 else _sentencepiece(steps)
    raise TokenizerError(
        f"tokenizer.json: decoder {kind!r} is not supported; ByteLevel, Metaspace and "
        "Sequence of Replace, ByteFallback, Fuse, Strip are"
    )


def _gpt2_bytes() -> dict[str, int]:
    """GPT-2's map of printable characters to bytes: itself where printable, else the next from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted(set(range(256)) - set(printable))
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(hidden)}


_GPT2_BYTES = _gpt2_bytes()


def _byte_level(token: str) -> bytes:
    try:
        return bytes(map(_GPT2_BYTES.__getitem__, token))
    except KeyError:  # an added token that holds other characters stands for itself
        return token.encode()


def _metaspace(decoder: Mapping[str, Any]) -> PieceRule:
    mark = decoder.get("replacement", "▁")
    keeps = decoder.get("prepend_scheme", "always") == "never"
    return PieceRule(
        inner=lambda token: token.replace(mark, " ").encode(),
        opening=lambda token: token.replace(mark, " " if keeps else "").encode(),
    )


def _sentencepiece(steps: list[Mapping[str, Any]]) -> PieceRule:
    """Replace … ByteFallback, Fuse, Strip: what Llama 2, Mistral and Gemma write."""
    replaced: list[tuple[str, str]] = []
    fallback = strips = fused = False
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)}:
                replaced.append((pattern, content))
            case {"type": "ByteFallback"}:
                fallback = True
            case {"type": "Fuse"}:
                fused = True
            case {"type": "Strip", "content": " ", "start": 0 | 1 as start, "stop": 0} if fused:
                strips = bool(start)
            case _:
                raise TokenizerError(f"tokenizer.json: decoder step {dict(step)} is not supported")

    def inner(token: str) -> bytes:
        for pattern, content in replaced:
            token = token.replace(pattern, content)
        byte = _fallback_byte(token) if fallback else None
        return token.encode() if byte is None else byte

    return PieceRule(inner, (lambda token: inner(token).removeprefix(b" ")) if strips else inner)


def _fallback_byte(token: str) -> bytes | None:
    """The byte that ``<0xE2>`` stands for; None for any other token."""
    if len(token) != 6 or not token.startswith("<0x") or token[5] != ">":
        return None
    try:
        return bytes([int(token[3:5], 16)])
    except ValueError:
        return None
