"""From a checked HTTP request to its answer: whole or streamed, and aborted when the client goes away."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from time import time
from typing import Any

import msgspec
from fastapi import Response
from msgspec import UNSET, UnsetType
from starlette.types import Receive

from infergc.client import EngineDeadError, Piece
from infergc.engine.messages import Submit
from infergc.server.answers.disconnect import EventStream, unless_gone
from infergc.server.answers.generation import Generation
from infergc.server.answers.responses import LAST_EVENT, Answer, Usage, event, new_id
from infergc.server.answers.shapes import Shape
from infergc.server.by_turns import by_turns
from infergc.server.entrance.line import Place
from infergc.server.errors import ApiError, as_api_error
from infergc.server.observing.record import Record
from infergc.server.requests.types import GenerationRequest, StreamOptions
from infergc.server.service import Service


@dataclass(frozen=True, slots=True)
class Job:
    """What one HTTP request asks for."""

    body: GenerationRequest
    requests: list[Submit]
    shape: Shape
    record: Record
    place: Place

    @property
    def choices(self) -> int:
        """Texts that the answer consists of, those of the first prompt first."""
        return sum(request.params.n for request in self.requests)


async def answer(service: Service, job: Job, receive: Receive) -> Response:
    """Generate, and answer as the request wants it.

    Raises:
        ApiError, EngineDeadError: before anything was sent.
        ClientGoneError: the client went away; nothing is left running.
    """
    options = job.body.usage_in_stream
    job.place.submit()
    record = job.record
    record.generation = generation = Generation(
        service, job.requests, job.shape.tokenizer, record.arrival, job.place, prompt_only=job.body.prompt_only
    )
    record.is_streamed = bool(job.body.stream)
    try:
        if job.body.stream:
            await unless_gone(receive, generation.begin())
            head = _head(service, job, job.shape.chunk_object)
            return EventStream(_events(generation, head, job, options), generation.close, record.leave)
        pieces = await unless_gone(receive, _gather(generation, job.choices))
    except BaseException:
        generation.close()
        raise
    head = _head(service, job, job.shape.whole_object)
    head.choices = [job.shape.whole(piece) async for piece in by_turns(pieces)]
    head.usage = generation.usage()
    return Response(msgspec.json.encode(head), media_type="application/json")


def _head(service: Service, job: Job, kind: str) -> Answer:
    return Answer(new_id(job.shape.prefix), kind, int(time()), service.settings.model_name, [])


async def _gather(generation: Generation, count: int) -> list[Piece]:
    """All of each choice's pieces as one."""
    texts: list[list[str]] = [[] for _ in range(count)]
    wholes = [Piece(index, "", []) for index in range(count)]
    while pieces := await generation.news():
        for piece in pieces:
            whole = wholes[piece.index]
            texts[piece.index].append(piece.text)
            whole.tokens += piece.tokens
            whole.logprobs += piece.logprobs
            whole.prompt_logprobs += piece.prompt_logprobs
            whole.finish_reason, whole.stop_reason = piece.finish_reason, piece.stop_reason
    for whole, parts in zip(wholes, texts, strict=True):
        whole.text = "".join(parts)
    return wholes


async def _events(generation: Generation, head: Answer, job: Job, options: StreamOptions) -> AsyncIterator[bytes]:
    """The frames of a stream. An error in the middle becomes a frame: the status line is long gone."""
    try:
        for index in range(job.choices):
            if (opening := job.shape.opening(index)) is not None:
                yield _chunk(head, [opening], _usage(generation, options))
        while pieces := await generation.news():
            for choice in _choices(job.shape, pieces):
                yield _chunk(head, [choice], _usage(generation, options))
        if options.include_usage:
            yield _chunk(head, [], generation.usage())
    except (ApiError, EngineDeadError) as error:
        told = as_api_error(error)
        job.record.went_wrong(told)
        yield event(told.body())
    yield LAST_EVENT


def _choices(shape: Shape, pieces: list[Piece]) -> Iterator[Any]:
    """The choices of the chunks that a step's pieces make; some wait for more."""
    for piece in pieces:
        has_news = piece.text or piece.logprobs or piece.finish_reason is not None
        if has_news and (choice := shape.chunk(piece)) is not None:
            yield choice


def _chunk(head: Answer, choices: list[object], usage: Usage | UnsetType | None) -> bytes:
    return event(Answer(head.id, head.object, head.created, head.model, choices, usage))


def _usage(generation: Generation, options: StreamOptions) -> Usage | UnsetType | None:
    """What a chunk that is not the last says of usage."""
    if not options.include_usage:
        return UNSET
    return generation.usage() if options.continuous_usage_stats else None
