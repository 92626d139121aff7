"""Errors in the OpenAI API's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypedDict

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import BaseRoute, Match

from infergc.client import EngineDeadError, EngineRestartingError, EngineStuckError, PromptError
from infergc.client.grammars import GrammarProcessError
from infergc.client.prepare import INVALID_VALUE
from infergc.params import ParameterError
from infergc.server.answers.disconnect import ClientGoneError
from infergc.server.field_faults import fault_of
from infergc.server.headers import retry_after
from infergc.wording import cut, shown

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
RATE_LIMIT = "rate_limit_error"
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody is there to read it
MISSING = "missing_required_parameter"
TOO_COMPLEX = "body_too_complex"
MOST_MESSAGE = 600  # characters: what clients sent may be repeated in a message, and is not to make it long
MOST_PARAM = 256  # characters
UNSUPPORTED = "unsupported"  # pydantic's type of a problem: the field is known but not served


class Problem(TypedDict):
    """What was wrong: in words, by its class, at which field, and a word for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The body of every error."""

    error: Problem


class ApiError(HTTPException):
    """A request is answered with this instead of a result.

    Attributes:
        status_code: HTTP status code.
        message: what was wrong and what is allowed; cut where it is long, as is the next.
        param: the request field concerned, None if none is.
        code: a word for programs, None if there is none.
        headers: to be sent with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.message = cut(message, MOST_MESSAGE)
        super().__init__(status, self.message, headers)
        self.param = None if param is None else cut(param, MOST_PARAM)
        self.code = code

    def body(self) -> ErrorBody:
        """The JSON body."""
        kind = INVALID_REQUEST if self.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else SERVER_ERROR
        if self.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            kind = RATE_LIMIT
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


def as_api_error(error: Exception) -> ApiError:
    """What to tell the client of an exception raised while serving a request."""
    for kind, translate in _TRANSLATIONS:
        if isinstance(error, kind):
            return translate(error)
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the server's log has the details")


def error_response(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """The HTTP answer for an error, with its own headers unless others are given."""
    headers = error.headers if headers is None else headers
    return Response(msgspec.json.encode(error.body()), error.status_code, headers, media_type="application/json")


def install(app: FastAPI) -> None:
    """Answer every exception of the app's routes in the OpenAI API's shape."""

    async def answer(request: Request, error: Exception) -> Response:
        told = as_api_error(error)
        if told.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            told.headers = {**(told.headers or {}), "Allow": ", ".join(_allowed(request))}
        return error_response(told)

    for kind in (*(kind for kind, _ in _TRANSLATIONS), Exception):
        app.add_exception_handler(kind, answer)


def _allowed(request: Request) -> list[str]:
    """The methods of a path. Each has a route of its own here, and the framework tells those of the first alone."""
    return [method for method in _METHODS if any(_takes(route, request, method) for route in request.app.routes)]


def _takes(route: BaseRoute, request: Request, method: str) -> bool:
    asked = "GET" if method == "HEAD" else method  # ``head_requests.Head``
    match, _ = route.matches({**request.scope, "method": asked})
    return match is Match.FULL


def _from_validation(problems: Sequence[Any]) -> ApiError:
    """Report the first problem."""
    kind, place = problems[0]["type"], problems[0]["loc"][1:]  # after "body"
    if kind == "json_invalid":
        message = f"the body is not valid JSON: {problems[0]['ctx']['error']} at character {place[0] + 1}"
        return bad_request(message, code="invalid_json")
    if not place:
        return bad_request(_about_the_body(problems[0]))
    field, words = fault_of([{**problem, "loc": problem["loc"][1:]} for problem in problems])
    return bad_request(f"{field}: {words}", field, _CODES.get(kind, "invalid_type"))


_CODES = {  # pydantic's type of a problem → the word for programs
    UNSUPPORTED: "unsupported_parameter",
    INVALID_VALUE: INVALID_VALUE,
    TOO_COMPLEX: TOO_COMPLEX,
    "literal_error": INVALID_VALUE,
    "missing": MISSING,
    "extra_forbidden": "unknown_parameter",
}


def _about_the_body(problem: Any) -> str:
    if problem["type"] == "missing":
        return "the body is empty; send a JSON object as application/json"
    if isinstance(problem["input"], bytes):
        return "the body was not read; send the header Content-Type: application/json"
    return f"the body must be a JSON object, not {shown(problem['input'])}"


def _from_http(error: StarletteHTTPException) -> ApiError:
    messages = {
        HTTPStatus.NOT_FOUND: "there is no such path; GET / lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method; GET / lists what it takes",
        HTTPStatus.BAD_REQUEST: "the body could not be read as JSON",
    }
    message = messages.get(HTTPStatus(error.status_code), str(error.detail))
    return ApiError(error.status_code, message, headers=dict(error.headers or {}))


def _unavailable(error: Exception, code: str, seconds: int | None = None) -> ApiError:
    """A 503; come again in so many seconds, or after one to find out. A stream has no header left to say so."""
    message = f"{error}; try again in {seconds} s" if seconds else str(error)
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, code=code, headers=retry_after(seconds or 1))


_TRANSLATIONS: tuple[tuple[type[Exception], Callable[[Any], ApiError]], ...] = (  # the first that fits counts
    (ApiError, lambda error: error),
    (StarletteHTTPException, _from_http),
    (RequestValidationError, lambda error: _from_validation(error.errors())),
    (PromptError, lambda error: bad_request(str(error), error.field, error.code)),
    (ParameterError, lambda error: bad_request(str(error), error.field, INVALID_VALUE)),
    (EngineRestartingError, lambda error: _unavailable(error, "engine_restarting", error.seconds)),
    (EngineDeadError, lambda error: _unavailable(error, "engine_unavailable", error.seconds)),
    (EngineStuckError, lambda error: _unavailable(error, "engine_stuck")),
    (GrammarProcessError, lambda error: _unavailable(error, "grammars_unavailable")),
    (ClientGoneError, lambda _: ApiError(CLIENT_CLOSED_REQUEST, "the client closed the connection")),
)
