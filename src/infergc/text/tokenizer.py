"""The tokenizer of a Hugging Face model directory, without torch and without transformers."""

from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import AddedToken

from infergc.params import ParameterError
from infergc.text.bounds import most_bytes_per_token
from infergc.text.files import (
    TokenizerError,
    eos_token_ids,
    named_special_tokens,
    read_json,
    read_tokenizer_config,
    token_content,
)
from infergc.text.pieces import piece_rule
from infergc.units import ceil_div


class TextError(ParameterError):
    """A text that cannot be encoded: the caller's to correct."""

    def __init__(self, message: str) -> None:
        super().__init__("prompt", message)


class Tokenizer:
    """Text to ids and back. Safe to use from several threads.

    Attributes:
        special_tokens: named special tokens, as chat templates see them: ``{"bos_token": "<s>", …}``.
        special_ids: ids that ``skip_special_tokens`` leaves out.
        eos_ids: ids that end a text: of the generation config and the tokenizer's own eos token.
        vocab_size: number of ids, added tokens included.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, spec: dict[str, Any], config: dict[str, Any], eos_ids: Iterable[int]
    ) -> None:
        self._backend = backend
        self._rule = piece_rule(spec.get("decoder"))
        self._most_bytes = most_bytes_per_token(backend, spec)
        self._pieces: dict[int, bytes] = {}
        self.special_tokens = named_special_tokens(config)
        self.special_ids = _special_ids(backend, self.special_tokens)
        own_eos = self._id_of("eos_token")
        self.eos_ids = tuple(dict.fromkeys([*eos_ids, *([] if own_eos is None else [own_eos])]))
        self.vocab_size = backend.get_vocab_size()

    @classmethod
    def load(cls, model_dir: str | Path) -> Self:
        """Read ``tokenizer.json`` and the tokens that ``tokenizer_config.json`` adds to it.

        As in transformers 5, tokenizer.json alone decides on bos and eos around a text, whatever
        add_bos_token and add_eos_token in the configuration say.

        Raises:
            TokenizerError: a file is missing or broken, or the tokenizer is of a kind not supported.
        """
        model_dir = Path(model_dir)
        backend = _load_backend(model_dir / "tokenizer.json")
        spec = read_json(model_dir / "tokenizer.json")
        config = read_tokenizer_config(model_dir)
        _add_tokens(backend, config)
        backend.no_truncation()  # limits are the engine's to enforce, with an error
        backend.no_padding()
        return cls(backend, spec, config, eos_token_ids(model_dir))

    @property
    def bos_token(self) -> str | None:
        """The token that begins a text, if the model has one."""
        return self.special_tokens.get("bos_token")

    @property
    def bos_id(self) -> int | None:
        """Its id."""
        return self._id_of("bos_token")

    @property
    def eos_token(self) -> str | None:
        """The token that ends a text, if the tokenizer names one."""
        return self.special_tokens.get("eos_token")

    def token_id(self, text: str) -> int | None:
        """The id of the token that is written so in the vocabulary; None where there is none."""
        return self._backend.token_to_id(text)

    def showing(self, ids: Iterable[int]) -> Self:
        """The same tokenizer, but these special tokens are text like any other."""
        other = copy(self)
        other.special_ids = self.special_ids.difference(ids)
        return other

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text; special tokens written in it are recognised.

        ``add_special_tokens`` puts a bos (or what the model uses) around it. Text from a chat template
        already has them: encode it with False.

        Raises:
            TextError: the text holds half a surrogate pair, which no UTF-8 text can.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(f"character {error.start} is half a surrogate pair, not a character") from error
        # the library's plain encode holds the interpreter's lock throughout; a batch of one does not
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return list(encoding.ids)

    def fewest_tokens(self, text: str) -> int:
        """A number of tokens that the text has at least, at no cost: its bytes / those of the longest token.

        0 for tokenizers that may leave some of a text out: see ``text.bounds``.
        """
        if self._most_bytes is None:
            return 0
        return ceil_div(len(text.encode("utf-8", "replace")), self._most_bytes)  # encode refuses half characters

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of these ids.

        Bytes that are not UTF-8 become U+FFFD as in Unicode 16, section 3.9 (of a run of broken bytes,
        transformers replaces every one). Ids outside the vocabulary have no text.
        """
        if skip_special_tokens:
            ids = [i for i in ids if i not in self.special_ids]
        return self.opening(ids)[0].decode("utf-8", "replace")

    def piece(self, token_id: int) -> bytes:
        """The bytes of a token inside a text; part of a character for some tokens."""
        try:
            return self._pieces[token_id]
        except KeyError:
            token = self._backend.id_to_token(token_id)
            return self._pieces.setdefault(token_id, b"" if token is None else self._rule.inner(token))

    def opening(self, ids: Sequence[int]) -> tuple[bytes, bool]:
        """The bytes of ids that begin a text, where SentencePiece's leading space is left out.

        The flag tells whether the text has begun: ids outside the vocabulary do not begin it.
        """
        for at, first in enumerate(ids):
            token = self._backend.id_to_token(first)
            if token is not None:
                return self._rule.opening(token) + b"".join(map(self.piece, ids[at + 1 :])), True
        return b"", False

    def token_text(self, token_id: int) -> str:
        r"""A name for one token in reports: its text, or ``bytes:\xe2\x82`` where that is cut."""
        piece = self.piece(token_id)
        try:
            return piece.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)

    def _id_of(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        return None if token is None else self._backend.token_to_id(token)


def _load_backend(path: Path) -> tokenizers.Tokenizer:
    if not path.is_file():
        raise TokenizerError(f"{path}: missing.{_what_else(path.parent)}")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        raise TokenizerError(f"{path}: not a tokenizer of the tokenizers library: {error}") from error


def _what_else(model_dir: Path) -> str:
    """Why a directory may lack tokenizer.json, and what to do."""
    for name in ("tokenizer.model", "vocab.json", "tekken.json"):
        if (model_dir / name).is_file():
            return (
                f" There is a {name}: convert it once with transformers, "
                "AutoTokenizer.from_pretrained(directory).save_pretrained(directory)"
            )
    return " --model takes a directory that holds config.json, tokenizer.json and *.safetensors"


def _add_tokens(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
    """Add the tokens that the configuration knows and tokenizer.json does not."""
    listed = config.get("added_tokens_decoder") or {}
    for _, entry in sorted(listed.items(), key=lambda item: int(item[0])):
        token = AddedToken(**{k: v for k, v in entry.items() if k != "__type"})
        if backend.token_to_id(token.content) is None:
            backend.add_tokens([token])
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    values = [*named_special_tokens(config).values(), *(extra.values() if isinstance(extra, dict) else extra)]
    contents = [content for content in map(token_content, values) if content]
    backend.add_special_tokens([AddedToken(content, special=True, normalized=False) for content in contents])


def _special_ids(backend: tokenizers.Tokenizer, named: dict[str, str]) -> frozenset[int]:
    marked = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    ids = (backend.token_to_id(token) for token in named.values())
    return frozenset(marked | {i for i in ids if i is not None})
