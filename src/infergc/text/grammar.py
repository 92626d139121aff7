"""Whether what a request's text is to keep to is a grammar: found out before the request is taken."""

from functools import cached_property

from llguidance import LLTokenizer

from infergc import grammars
from infergc.faults import ParameterError
from infergc.grammars import GrammarError
from infergc.structured_outputs import FIELD, StructuredOutputs

_REMEMBERED = 64  # grammars, of at most 64 Ki characters each


class GrammarCheck:
    """Tells grammars from what is none, and remembers those it was asked for last. Safe to use from several threads.

    The model's tokenizer does not matter for that: a grammar is tried on one of bytes. So very few are found to be too
    complex only when the engine comes to them, which ends that request with an error.
    """

    def __init__(self) -> None:
        self._good: dict[StructuredOutputs, None] = {}

    def knows(self, outputs: StructuredOutputs) -> bool:
        """Whether it was found good lately: then ``check`` costs nothing."""
        return outputs in self._good

    def check(self, outputs: StructuredOutputs) -> None:
        """Refuse what is no grammar.

        Cost: a millisecond for most; 0.1 s is the most that was seen, of 64 Ki characters of alternatives.

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
        return LLTokenizer("byte")


def _refusal(outputs: StructuredOutputs, said: str) -> ParameterError:
    return ParameterError(f"{FIELD}.{outputs.kind}", f"is not supported: {said}")
