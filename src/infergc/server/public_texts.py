"""Texts that the operator declares public: prompts that begin with one share its pages, whoever sends them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from infergc.config import ConfigError
from infergc.server.field_faults import fault_of
from infergc.server.requests.messages import Message
from infergc.text.chat import ChatTemplate
from infergc.text.tokenizer import Tokenizer

FLAG = "--public-prefix"
_MESSAGES = TypeAdapter(list[Message])


class PublicTexts:
    """The declared texts, as token ids."""

    def __init__(self, texts: Iterable[list[int]] = ()) -> None:
        self._texts = list(texts)

    @classmethod
    def load(cls, files: Iterable[Path], tokenizer: Tokenizer, template: ChatTemplate, page_tokens: int) -> Self:
        """Read the files of ``--public-prefix``.

        One whose name ends in ``.json`` holds a list of messages, as chats begin with, and goes through the template
        without the words that begin an answer. Any other is text in UTF-8, as completions begin with: to the last
        byte, special tokens included that the tokenizer adds.

        Raises:
            ConfigError: naming the file: it cannot be read or rendered, or has no whole page that could be shared.
        """
        return cls([_ids(path, tokenizer, template, page_tokens) for path in files])

    def leading(self, prompt: list[int]) -> int:
        """How many tokens a prompt begins with that a declared text begins with too. Cost: O(tokens compared)."""
        return max((_common(text, prompt) for text in self._texts), default=0)


def _ids(path: Path, tokenizer: Tokenizer, template: ChatTemplate, page_tokens: int) -> list[int]:
    try:
        text, is_chat = path.read_text("utf-8"), path.suffix == ".json"
        if is_chat:
            messages = [message.for_template() for message in _MESSAGES.validate_json(text)]
            text = template.render(messages, add_generation_prompt=False)
        ids = tokenizer.encode(text, add_special_tokens=not is_chat)
    except ValidationError as error:
        place, reason = fault_of(error.errors())
        reason = f"{place}: {reason}" if place else reason
        raise ConfigError(f"{FLAG}: {path} does not hold a list of messages with role and content: {reason}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{FLAG}: {path}: {error}") from error
    if len(ids) < page_tokens:
        message = f"{path} has {len(ids)} tokens; only whole pages are shared, of {page_tokens} tokens (--block-size)"
        raise ConfigError(f"{FLAG}: {message}")
    return ids


def _common(one: list[int], other: list[int]) -> int:
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(at for at, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs)
