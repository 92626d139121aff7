"""POST /tokenize and POST /detokenize."""

import asyncio

import msgspec
from fastapi import APIRouter, Response
from msgspec import Struct

from infergc.params import ParameterError
from infergc.server.description import answered
from infergc.server.errors import MISSING, bad_request
from infergc.server.requests.body_limits import LimitedRoute
from infergc.server.requests.types import DetokenizeRequest, TokenizeRequest
from infergc.server.service import LONG_TEXT, Service


class Tokens(Struct):
    """The ids of a text."""

    tokens: list[int]
    count: int
    max_model_len: int


class Text(Struct):
    """The text of ids, under either name."""

    prompt: str
    content: str


def tokens_router(service: Service) -> APIRouter:
    """The routes between text and token ids."""
    router = APIRouter(tags=["tokens"], route_class=LimitedRoute)

    @router.post("/tokenize", responses=answered(Tokens))
    async def tokenize(body: TokenizeRequest) -> Response:
        """Ids of a text, or of a conversation through the chat template."""
        service.check_model(body.model)
        tokens = await _tokens(service, body)
        return _json(Tokens(tokens, len(tokens), service.client.ready.max_model_len))

    @router.post("/detokenize", responses=answered(Text))
    async def detokenize(body: DetokenizeRequest) -> Response:
        """The text of ids, special tokens included."""
        service.check_model(body.model)
        if len(body.tokens) < LONG_TEXT:
            return _json(_text(service, body.tokens))
        return _json(await asyncio.to_thread(_text, service, body.tokens))

    return router


def _json(body: Struct) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


def _text(service: Service, tokens: list[int]) -> Text:
    vocabulary = service.client.ready.vocab_size
    if tokens and not 0 <= min(tokens) <= max(tokens) < vocabulary:
        raise ParameterError("tokens", f"takes token ids of this model: 0 to {vocabulary - 1}")
    text = service.tokenizer.decode(tokens, skip_special_tokens=False)
    return Text(text, text)


async def _tokens(service: Service, body: TokenizeRequest) -> list[int]:
    given = [name for name in ("prompt", "content", "messages") if getattr(body, name) is not None]
    if len(given) != 1:
        raise bad_request("prompt: give exactly one of prompt, content and messages", "prompt", MISSING)
    if body.messages is not None:
        rendered = service.conversation(body.messages, body.tools, add_generation_prompt=body.add_generation_prompt)
        return await service.encode(rendered, add_special_tokens=False)
    if body.tools:
        raise ParameterError("tools", "is only allowed with messages")
    text = body.prompt if body.prompt is not None else body.content
    return await service.encode(text or "", add_special_tokens=body.add_special_tokens is not False)
