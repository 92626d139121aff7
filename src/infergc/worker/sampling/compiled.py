"""Grammars compiled for a model's tokenizer."""

from collections import OrderedDict
from functools import cached_property
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer
from tokenizers import Tokenizer

from infergc import grammars
from infergc.grammars import GrammarError
from infergc.structured_outputs import StructuredOutputs

_KEPT = 32  # compiled grammars; those that take 0.1 s to compile were seen to take 3 to 12 MB


class CompiledGrammars:
    """Makes matchers, and keeps the grammars compiled last. Used by one thread.

    Args:
        model_dir: holds tokenizer.json, which is read when a grammar is first asked for; None where there is none.
        vocab_size: V of the logits; the tokenizer may have fewer ids or more.
        eos_ids: the model's end tokens, any of which may end a text where its grammar lets it end.

    Attributes:
        eos_ids: as given.
    """

    def __init__(self, model_dir: Path | None, vocab_size: int, eos_ids: tuple[int, ...]) -> None:
        self._model_dir = model_dir
        self._vocab_size = vocab_size
        self.eos_ids = eos_ids
        self._kept: OrderedDict[StructuredOutputs, LLMatcher] = OrderedDict()

    def matcher(self, outputs: StructuredOutputs) -> LLMatcher:
        """A matcher of its own, at the beginning of a text.

        Cost: see ``grammars.matcher`` for the first; a copy of one kept costs microseconds. The first of all takes
        what reading the tokenizer does: 50 ms with 4096 ids.

        Raises:
            GrammarError: there is no such grammar, or the tokenizer cannot be used.
        """
        if outputs not in self._kept:
            self._kept[outputs] = grammars.matcher(self.tokenizer, outputs)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(outputs)
        return self._kept[outputs].deep_copy()

    @cached_property
    def tokenizer(self) -> LLTokenizer:
        """The model's tokenizer, as grammars see it: of special tokens none is text.

        Tokens that only tokenizer_config.json knows are not in it; no grammar leads to them.

        Raises:
            GrammarError: there is none, it is of a kind that llguidance does not take, or it has none of the model's
                end tokens.
        """
        if self._model_dir is None:
            raise GrammarError("there is no tokenizer here")
        backend = _read(self._model_dir / "tokenizer.json")
        size = backend.get_vocab_size()
        ends = [token for token in self.eos_ids if token < size]
        if not ends:
            raise GrammarError("the model's tokenizer.json has no end token, so no text that keeps to a grammar ends")
        try:
            return LLTokenizer(backend.to_str(), n_vocab=max(size, self._vocab_size), eos_token=ends)
        except ValueError as error:
            raise GrammarError(f"the model's tokenizer cannot be used with grammars: {error}") from None


def _read(path: Path) -> Tokenizer:
    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises nothing more precise
        raise GrammarError(f"{path.name} cannot be read: {error}") from None
    backend.no_truncation()
    backend.no_padding()
    return backend
