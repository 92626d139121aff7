"""POST /v1/completions and POST /v1/chat/completions."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from infergc.engine.messages import Submit
from infergc.params import SamplingParams
from infergc.server.answers.answer import Job, answer
from infergc.server.answers.echo import PromptShape, echoed
from infergc.server.answers.shapes import ChatShape, CompletionShape
from infergc.server.by_turns import by_turns
from infergc.server.description import generated
from infergc.server.entrance.gate import place_of
from infergc.server.entrance.tenants import tenant_of
from infergc.server.observing.record import record_of
from infergc.server.requests.body_limits import LimitedRoute
from infergc.server.requests.types import ChatRequest, CompletionRequest
from infergc.server.service import Service
from infergc.server.tools.shape import ToolShape
from infergc.server.tools.turn import named_as_tools


def completions_router(service: Service) -> APIRouter:
    """The routes that generate."""
    router = APIRouter(prefix="/v1", tags=["generation"], route_class=LimitedRoute)

    @router.post("/completions", responses=generated("Completion", "Completion"))
    async def complete(body: CompletionRequest, http: Request) -> Response:
        """Complete one prompt or a batch of them, each in one choice of the answer or in ``n``."""
        service.check_model(body.model)
        params = body.sampling()
        await service.check_grammar(params, body, http.receive)
        place = place_of(http)
        place.widen(len(body.prompt) * params.n)
        given: Sequence[str | list[int]] = body.prompt
        prompts = [await _ids(service, prompt, body) async for prompt in by_turns(given)]
        requests = [service.request(prompt, params, body, tenant_of(http)) async for prompt in by_turns(prompts)]
        shape = _completion_shape(service, body, params, requests)
        return await answer(service, Job(body, requests, shape, record_of(http.scope), place), http.receive)

    @router.post("/chat/completions", responses=generated("ChatCompletion", "ChatCompletionChunk"))
    async def chat(body: ChatRequest, http: Request) -> Response:
        """Answer a conversation."""
        service.check_model(body.model)
        params = body.sampling()
        place = place_of(http)
        place.widen(params.n)
        text = service.conversation(body.messages, body.tools, add_generation_prompt=body.add_generation_prompt)
        shape = ChatShape(service.tokenizer)
        if (turn := service.tools.turn(body)) is None:
            await service.check_grammar(params, body, http.receive)
        else:
            shape = ToolShape(turn, params.n)
            with named_as_tools():
                params = turn.constrain(params)
                await service.check_calls(turn, params, http.receive)
        prompt = await service.encode_prompt(text, add_special_tokens=False)
        requests = [service.request(prompt, params, body, tenant_of(http))]
        return await answer(service, Job(body, requests, shape, record_of(http.scope), place), http.receive)

    return router


async def _ids(service: Service, prompt: str | list[int], body: CompletionRequest) -> list[int]:
    if isinstance(prompt, str):
        return await service.encode_prompt(prompt, add_special_tokens=body.add_special_tokens is not False)
    return prompt


def _completion_shape(
    service: Service, body: CompletionRequest, params: SamplingParams, requests: list[Submit]
) -> CompletionShape:
    texts = [echoed(service.tokenizer, prompt) if body.echo else "" for prompt in body.prompt]
    prompts = [
        PromptShape(service.tokenizer, body, text, request) for text, request in zip(texts, requests, strict=True)
    ]
    return CompletionShape(service.tokenizer, prompts, params)
