"""Bodies of answers in the OpenAI API's shape. Plain structs: one is written per streamed token."""

from typing import Any, Literal
from uuid import uuid4

import msgspec
from msgspec import UNSET, Struct, UnsetType

from infergc.server.answers.logprobs import ChatLogprobs, CompletionLogprobs, PromptLogprob


class PromptTokensDetails(Struct):
    """How many of the prompt's tokens came from the prefix cache, and how many are pinned now if that was asked for."""

    cached_tokens: int
    pinned_tokens: int | UnsetType = UNSET


class Usage(Struct):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails

    @classmethod
    def of(cls, prompt: int, completion: int, cached: int, pinned: int | None = None) -> "Usage":
        """Count them up; ``pinned`` is None where no pin was asked for."""
        details = PromptTokensDetails(cached, UNSET if pinned is None else pinned)
        return cls(prompt, completion, prompt + completion, details)


class CompletionChoice(Struct):
    """One text of a completion, or what a chunk adds to it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | UnsetType = UNSET


class FunctionCall(Struct):
    """A function and its arguments' JSON."""

    name: str
    arguments: str


class ToolCall(Struct):
    """A call in an answer."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ChatMessage(Struct):
    """The assistant's message; no content where it does nothing but call functions."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(Struct):
    """One answer of a chat."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class CalledChunk(Struct):
    """What a chunk adds to a call's arguments; the name comes once."""

    arguments: str
    name: str | UnsetType = UNSET


class CallChunk(Struct):
    """What a chunk adds to the call of this index; its id and type come once."""

    index: int
    function: CalledChunk
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class ChatDelta(Struct):
    """What a chunk adds to an answer."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[CallChunk] | UnsetType = UNSET


class ChatChunkChoice(Struct):
    """One answer's part of a chunk."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class Answer(Struct):
    """A completion, a chat completion, or a chunk of one.

    ``usage`` is left out of chunks unless the stream was asked for it; it is then null in all but the last.
    """

    id: str
    object: str
    created: int
    model: str
    choices: list[Any]
    usage: Usage | UnsetType | None = UNSET


def new_id(prefix: str) -> str:
    """An id no other answer has."""
    return f"{prefix}-{uuid4().hex}"


def event(body: object) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


LAST_EVENT = b"data: [DONE]\n\n"
