"""Request bodies of the OpenAI API, with vLLM's extensions at the top level.

Every field is served, accepted because its value changes nothing, or refused by name: none is ignored in
silence. ``sampling()`` gives the request's ``SamplingParams``.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infergc.cache_control import CacheControl
from infergc.params import MAX_COUNT, MAX_LOGPROBS, ParameterError, SamplingParams, check_number
from infergc.server.requests.bounds import tell_bounds, tell_cache_bounds
from infergc.server.requests.fields import (
    Biases,
    EmptyOnly,
    Harmless,
    Ids,
    OffOnly,
    Prompts,
    Stops,
    Unserved,
    only,
)
from infergc.server.requests.messages import Message
from infergc.server.requests.structured import (
    ResponseFormat,
    StructuredOutputsField,
    named_as_sent,
    structured_outputs,
)
from infergc.server.tools.fields import ToolChoice, Tools
from infergc.wording import shown


class StreamOptions(BaseModel):
    """What a stream carries besides text."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: Harmless = None


class CacheControlField(BaseModel):
    """How the pages of the prompt are to be kept; ``control()`` gives it as the engine takes it."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra=tell_cache_bounds)

    type: Literal["ephemeral"] = "ephemeral"
    ttl: Any = None  # "5m", "1h" or seconds; checked with the others
    priority: int | None = None
    pin: bool | None = None

    def control(self) -> CacheControl:
        """What is asked for.

        Raises:
            ParameterError: a value is out of its bounds.
        """
        return CacheControl(self.ttl, self.priority, bool(self.pin))


class GenerationRequest(BaseModel):
    """What completions and chat completions share. A field that is null takes its default."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, json_schema_extra=tell_bounds)

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Biases = None
    seed: int | None = None
    stop: Stops = None
    stop_token_ids: Ids | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    priority: int | None = None
    cache_salt: str | None = None
    queue_timeout: int | None = None
    session_id: str | None = None
    cache_control: CacheControlField | None = None
    user: Harmless = None
    metadata: Harmless = None
    safety_identifier: Harmless = None
    prompt_cache_key: Harmless = None
    n: int | None = None
    best_of: int | None = None
    use_beam_search: bool | None = None
    beam_width: int | None = None
    length_penalty: float | None = None
    early_stopping: Any = None  # true, false or "never"; checked with the sampling parameters
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputsField | None = None

    def sampling(self) -> SamplingParams:
        """The sampling parameters that the request asks for.

        Raises:
            ParameterError: a value is out of its bounds.
        """
        given = self.model_dump(include=_SAMPLING, exclude_none=True)
        if self.logit_bias is not None:
            given["logit_bias"] = {_token_id(key): bias for key, bias in self.logit_bias.items()}
        given["structured_outputs"] = structured_outputs(self.response_format, self.structured_outputs)
        with named_as_sent(self.response_format):
            params = SamplingParams(**given, **self.limits())
        if self.best_of not in {None, params.n}:
            message = f"{self.best_of} is not n ({params.n}): all texts that are generated are told; leave it out"
            raise ParameterError("best_of", message)
        return params

    def limits(self) -> dict[str, Any]:
        """The parameters that the two kinds of request spell differently: max_tokens and logprobs."""
        raise NotImplementedError

    @property
    def prompt_only(self) -> bool:
        """Whether the answer holds no more than the prompt: a token is generated all the same, and told to nobody."""
        return False

    @property
    def usage_in_stream(self) -> StreamOptions:
        """What a stream tells of usage.

        Raises:
            ParameterError: stream_options without stream.
        """
        if self.stream_options is not None and not self.stream:
            raise ParameterError("stream_options", "is only allowed when stream is true")
        return self.stream_options or StreamOptions()


_SAMPLING = {
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "skip_special_tokens",
    "include_stop_str_in_output",
    "n",
    "use_beam_search",
    "beam_width",
    "length_penalty",
    "early_stopping",
}


class CompletionRequest(GenerationRequest):
    """Body of POST /v1/completions."""

    prompt: Prompts
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    add_special_tokens: bool | None = None  # true
    echo: bool | None = None
    suffix: Annotated[Any, only(None, "")] = None

    def limits(self) -> dict[str, Any]:
        """max_tokens is 16 unless given, as in the OpenAI API; with ``echo`` it may be 0."""
        if self.max_tokens is not None and self.max_tokens < 1 and not self.prompt_only:
            raise ParameterError("max_tokens", f"{self.max_tokens} is not allowed; it must be ≥ 1, or 0 with echo")
        if self.prompt_logprobs is not None:
            check_number("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS)
            if self.stream:
                raise ParameterError("prompt_logprobs", "is not allowed in streams; echo with logprobs is")
        told = [self.prompt_logprobs, self.logprobs if self.echo else None]
        given = {
            "max_tokens": 1 if self.prompt_only else self.max_tokens,
            "logprobs": self.logprobs,
            "prompt_logprobs": max((count for count in told if count is not None), default=None),
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def prompt_only(self) -> bool:
        """As for all, with ``echo`` and ``max_tokens`` of 0."""
        return bool(self.echo) and self.max_tokens == 0


Messages = Annotated[list[Message], Field(fail_fast=True)]


class ChatRequest(GenerationRequest):
    """Body of POST /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    add_generation_prompt: bool | None = None  # true
    tools: Tools | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    functions: EmptyOnly = None
    function_call: Annotated[Any, only(None, "none", "auto")] = None
    modalities: Annotated[Any, only(None, ["text"])] = None
    service_tier: Annotated[Any, only(None, "auto", "default")] = None
    store: OffOnly = None
    audio: Unserved = None
    prediction: Unserved = None
    reasoning_effort: Unserved = None
    verbosity: Unserved = None
    web_search_options: Unserved = None

    def limits(self) -> dict[str, Any]:
        """max_tokens reaches to the end of the context unless given, as in the OpenAI API."""
        return {"max_tokens": self._max_tokens(), "logprobs": self._logprobs()}

    def _max_tokens(self) -> int | None:
        older, newer = self.max_tokens, self.max_completion_tokens
        if older is not None and newer is not None and older != newer:
            raise ParameterError("max_completion_tokens", f"{newer} contradicts max_tokens ({older}); give one")
        return older if newer is None else newer

    def _logprobs(self) -> int | None:
        if self.top_logprobs is not None:
            check_number("top_logprobs", self.top_logprobs, 0, MAX_LOGPROBS)
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs:
            raise ParameterError("top_logprobs", "is only allowed when logprobs is true")
        return None


class TokenizeRequest(BaseModel):
    """Body of POST /tokenize: a text as ``prompt`` (or ``content``), or a chat as ``messages``."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str | None = None
    prompt: str | None = None
    content: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    add_special_tokens: bool | None = None  # true
    add_generation_prompt: bool | None = None  # true


class DetokenizeRequest(BaseModel):
    """Body of POST /detokenize."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str | None = None
    tokens: Ids


def _token_id(key: str) -> int:
    if not key.isdecimal() or len(key) > len(str(MAX_COUNT)):
        raise ParameterError("logit_bias", f"key {shown(key)} is no token id, an integer from 0 to {MAX_COUNT}")
    return int(key)
