"""POST /tokenize and POST /detokenize."""

from fastapi import APIRouter
from pydantic import BaseModel

from infergc.params import ParameterError
from infergc.server.errors import bad_request
from infergc.server.service import Service
from infergc.server.types import DetokenizeRequest, TokenizeRequest


class Tokens(BaseModel):
    """Ids of a text, how many they are, and how many the model's context holds."""

    tokens: list[int]
    count: int
    max_model_len: int


class Text(BaseModel):
    """The text of ids, under both names that clients look for."""

    prompt: str
    content: str


def tokens_router(service: Service) -> APIRouter:
    """The routes between text and token ids."""
    router = APIRouter(tags=["tokens"])

    @router.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> Tokens:
        """Ids of a text, or of a conversation through the chat template."""
        service.check_model(body.model)
        tokens = await _tokens(service, body)
        return Tokens(tokens=tokens, count=len(tokens), max_model_len=service.client.ready.max_model_len)

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> Text:
        """The text of ids, special tokens included."""
        service.check_model(body.model)
        vocabulary = service.client.ready.vocab_size
        if any(not 0 <= token < vocabulary for token in body.tokens):
            raise ParameterError("tokens", f"takes token ids of this model: 0 to {vocabulary - 1}")
        text = service.tokenizer.decode(body.tokens, skip_special_tokens=False)
        return Text(prompt=text, content=text)

    return router


async def _tokens(service: Service, body: TokenizeRequest) -> list[int]:
    given = [name for name in ("prompt", "content", "messages") if getattr(body, name) is not None]
    if len(given) != 1:
        raise bad_request("prompt: give exactly one of prompt, content and messages", "prompt")
    if body.messages is not None:
        rendered = service.conversation(body.messages, body.tools, add_generation_prompt=body.add_generation_prompt)
        return await service.encode(rendered, add_special_tokens=False)
    if body.tools:
        raise ParameterError("tools", "is only allowed with messages")
    text = body.prompt if body.prompt is not None else body.content
    return await service.encode(text or "", add_special_tokens=body.add_special_tokens is not False)
