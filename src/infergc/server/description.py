"""The server's description of itself, GET /openapi.json: beside the routes, its answers, its errors and its keys."""

from typing import Any

import msgspec
from fastapi import FastAPI

from infergc.server.answers.responses import Answer, ChatChoice, ChatChunkChoice, CompletionChoice
from infergc.server.entrance.paths import ADMIN_PATHS, OPEN_PATHS
from infergc.server.errors import ErrorBody
from infergc.server.headers import RETRY_AFTER
from infergc.server.observing.observed import REQUEST_ID

Schema = dict[str, Any]

_PLACE = "#/components/schemas/"
_ERROR = {"application/json": {"schema": {"$ref": f"{_PLACE}ErrorBody"}}}
_NAMED = {REQUEST_ID: {"$ref": "#/components/headers/RequestId"}}
_RETRY = {RETRY_AFTER: {"description": "Whole seconds after which to come again.", "schema": {"type": "string"}}}
_ANSWERS = {"Completion": CompletionChoice, "ChatCompletion": ChatChoice, "ChatCompletionChunk": ChatChunkChoice}

REFUSALS: dict[int | str, Schema] = {
    "4XX": {"description": "Refused; the message says what is allowed.", "content": _ERROR},
    "5XX": {"description": "Not served, through no fault of the request.", "content": _ERROR},
}


def generated(whole: str, chunk: str) -> dict[int | str, Schema]:
    """What a route that generates answers, for its ``responses``.

    Args:
        whole: the name of an answer that is given whole.
        chunk: the name of a part of a streamed one.
    """
    bodies = {"anyOf": [{"$ref": _PLACE + name} for name in (chunk, "ErrorBody")]}  # an error in the middle is a frame
    body = {"contentMediaType": "application/json", "contentSchema": bodies}
    data = {"type": "string", "anyOf": [{"const": "[DONE]"}, body]}
    frame = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    return {
        200: {
            "content": {
                "application/json": {"schema": {"$ref": _PLACE + whole}},
                "text/event-stream": {"itemSchema": frame},  # of OpenAPI 3.2; FastAPI describes streams so, too
            }
        },
        429: {"description": "The queue is full.", "content": _ERROR, "headers": _RETRY},
    }


def answered(kind: type[msgspec.Struct]) -> dict[int | str, Schema]:
    """What a route answers that writes a plain struct of plain fields, for its ``responses``."""
    _, schemas = msgspec.json.schema_components([kind])
    return {200: {"content": {"application/json": {"schema": schemas[kind.__name__]}}}}


class DescribedApp(FastAPI):
    """An application whose description is whole.

    Args:
        is_keyed: whether clients need a key.
        options: as of FastAPI.
    """

    def __init__(self, *, is_keyed: bool, **options: Any) -> None:
        super().__init__(**options, responses=REFUSALS)
        self._is_keyed = is_keyed
        self._described: Schema | None = None

    def openapi(self) -> Schema:
        """The description; made once, when all routes are there."""
        if self._described is None:
            self._described = _completed(super().openapi(), is_keyed=self._is_keyed)
        return self._described


def _completed(described: Schema, *, is_keyed: bool) -> Schema:
    components = described.setdefault("components", {})
    components.setdefault("schemas", {}).update(_schemas())
    components["headers"] = {"RequestId": {"description": "The request's, or a new one.", "schema": {"type": "string"}}}
    components["parameters"] = {"RequestId": _request_id()}
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "--api-key"},
        "admin": {"type": "http", "scheme": "bearer", "description": "--admin-key"},
    }
    for path, operations in described["paths"].items():
        for operation in operations.values():
            operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestId"})
            operation["security"] = [{name: []} for name in _keys(path, is_keyed=is_keyed)]
            for response in operation["responses"].values():
                response["headers"] = {**response.get("headers", {}), **_NAMED}
    return described


def _keys(path: str, *, is_keyed: bool) -> list[str]:
    """The key that a path wants, if any; ``keys.Keys`` is what asks for it."""
    if path.startswith(ADMIN_PATHS):
        return ["admin"]
    return ["key"] if is_keyed and path not in OPEN_PATHS else []


def _schemas() -> Schema:
    """Of what is written as plain structs, which FastAPI does not know."""
    kinds = [Answer, ErrorBody, *_ANSWERS.values()]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_PLACE + "{name}")
    answer = schemas.pop("Answer")
    for name, choice in _ANSWERS.items():
        choices = {"type": "array", "items": {"$ref": _PLACE + choice.__name__}}
        schemas[name] = {**answer, "title": name, "properties": {**answer["properties"], "choices": choices}}
    return schemas


def _request_id() -> Schema:
    description = "Names the request; the answer carries it."
    return {"name": REQUEST_ID, "in": "header", "required": False, "description": description,
            "schema": {"type": "string"}}  # fmt: skip
