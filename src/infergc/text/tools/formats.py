"""The formats that are known, and which of them a model's chat template shows."""

from collections.abc import Callable, Collection
from typing import Protocol

from infergc.text.tools.hermes import Hermes
from infergc.text.tools.lark import Schemas, Spell
from infergc.text.tools.llama3_json import Llama3Json
from infergc.text.tools.mistral import Mistral
from infergc.text.tools.parser import ToolParser

AUTO = "auto"


class ToolFormat(Protocol):
    """One way of writing calls.

    Attributes:
        name: as the flag --tool-call-parser takes it.
        marks: strings around calls, which may be special tokens of the model.
        id_length: how long the ids of calls must be that the chat templates take; None: any.
    """

    name: str
    marks: tuple[str, ...]
    id_length: int | None

    def parser(self, names: Collection[str]) -> ToolParser:
        """What finds the calls of these functions in the text of one answer."""
        ...

    def grammar(self, schemas: Schemas, spell: Spell, *, several: bool) -> str:
        """The grammar of a text that is one call of these functions, or one or ``several``, and nothing else.

        Raises:
            RecursionError: a schema is nested too deeply to be written down.
        """
        ...


def find_format(flag: str, template: str) -> ToolFormat | None:
    """The format that the flag names, or with ``AUTO`` the one that the template shows; None where it shows none."""
    for name, (fits, make) in _FORMATS.items():
        if flag == name or (flag == AUTO and fits(template)):
            return make(template)
    return None


def _shows_hermes(template: str) -> bool:
    """Other models put something else than JSON between the same marks."""
    return "<tool_call>" in template and "<function=" not in template and "<arg_key>" not in template


def _shows_mistral(template: str) -> bool:
    return "[TOOL_CALLS]" in template


def _shows_llama3_json(template: str) -> bool:
    return "<|start_header_id|>" in template and '"parameters"' in template


_FORMATS: dict[str, tuple[Callable[[str], bool], Callable[[str], ToolFormat]]] = {
    "hermes": (_shows_hermes, lambda _: Hermes()),
    "llama3_json": (_shows_llama3_json, lambda _: Llama3Json()),
    "mistral": (_shows_mistral, lambda template: Mistral(newer="[ARGS]" in template)),
}
CHOICES = (AUTO, *_FORMATS)  # of the flag --tool-call-parser
