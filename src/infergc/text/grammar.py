"""Whether what a request's text is to keep to is a grammar: found out before the request is taken."""

from functools import cached_property

from llguidance import LLTokenizer, TokenizerWrapper

from infergc import grammars
from infergc.field_errors import ParameterError
from infergc.grammars import GrammarError
from infergc.structured_outputs import FIELD, StructuredOutputs

_REMEMBERED = 64  # grammars, of at most 64 Ki characters each


class GrammarCheck:
    """Tells grammars from what is none, and remembers those it was asked for last. Safe to use from several threads.

    The model's tokenizer does not matter for that: a grammar is tried on one of bytes. So very few are found to be too
    complex only when the engine comes to them, which ends that request with an error.

    Args:
        vocab_size: of the model: a grammar may ask for tokens by their ids below it, as ``<[5]>``.
    """

    def __init__(self, vocab_size: int = 0) -> None:
        self._vocab_size = vocab_size
        self._good: dict[StructuredOutputs, None] = {}

    def knows(self, outputs: StructuredOutputs) -> bool:
        """Whether it was found good lately: then ``check`` costs nothing."""
        return outputs in self._good

    def check(self, outputs: StructuredOutputs) -> None:
        """Refuse what is no grammar.

        Cost: a millisecond for most, but nothing bounds it; see ``text.grammar_process`` for what does.

        Raises:
            ParameterError: naming ``structured_outputs`` and its field, with what llguidance says of it.
        """
        if self.knows(outputs):
            return
        try:
            matcher = grammars.matcher(self._bytes, outputs)
        except GrammarError as error:
            raise _refusal(outputs, str(error)) from None
        matcher.compute_bitmask()  # what may come first: beyond reading a grammar, this shows one that is too complex
        if matcher.is_error():
            raise _refusal(outputs, grammars.error_of(matcher))
        self._remember(outputs)

    def _remember(self, outputs: StructuredOutputs) -> None:
        self._good[outputs] = None
        while len(self._good) > _REMEMBERED:
            self._good.pop(next(iter(self._good)), None)

    @cached_property
    def _bytes(self) -> LLTokenizer:
        return LLTokenizer(TokenizerWrapper(_Bytes(self._vocab_size)))


class _Bytes:
    """A vocabulary of bytes and an end token, and from there on of tokens that no text is made of."""

    bos_token_id = None
    eos_token_id = 256

    def __init__(self, size: int) -> None:
        unused = size - self.eos_token_id - 1
        self.tokens = [*(bytes((byte,)) for byte in range(256)), b"<end>", *([b""] * unused)]
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def _refusal(outputs: StructuredOutputs, said: str) -> ParameterError:
    return ParameterError(f"{FIELD}.{outputs.kind}", f"is not supported: {said}")
