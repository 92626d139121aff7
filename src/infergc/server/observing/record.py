"""What is known of one HTTP request, from its head to its end: what logs and traces are made of."""

from dataclasses import dataclass
from time import perf_counter, time

from starlette.datastructures import Headers
from starlette.types import Scope

from infergc.server.answers.generation import Generation
from infergc.server.entrance.tenants import Tenant
from infergc.server.errors import CLIENT_CLOSED_REQUEST, ApiError
from infergc.wording import cut

_MOST_PATH = 256  # characters, of what may be any text


@dataclass(slots=True)
class Record:
    """One HTTP request. It holds no text of it, and no key.

    Attributes:
        request_id: the answer's x-request-id.
        path: cut where it is long.
        headers: the request's, for whoever continues a trace; they hold the key.
        time: when its head was read, in seconds since 1970.
        arrival: the same moment by ``time.perf_counter()``.
        status: of the answer; 0 until it has begun.
        is_streamed: whether it wants a stream.
        has_left: whether the client went before the end of the answer.
        error: the error's code, or its type where it has none; "" while all is well.
        param: the field that the error names.
        tenant: label of whose key it came with; "" where none is asked for, or it was wrong.
        generation: the engine's requests behind it, if it came so far.
        ended: when all was over, by ``time.perf_counter()``.
    """

    request_id: str
    method: str
    path: str
    headers: Headers
    time: float
    arrival: float
    status: int = 0
    is_streamed: bool = False
    has_left: bool = False
    error: str = ""
    param: str | None = None
    tenant: str = ""
    generation: Generation | None = None
    ended: float = 0.0

    @classmethod
    def begin(cls, scope: Scope, headers: Headers, request_id: str) -> "Record":
        """A request whose head was read just now."""
        return cls(request_id, scope["method"], cut(scope["path"], _MOST_PATH), headers, time(), perf_counter())

    def went_wrong(self, error: ApiError) -> None:
        """Note what the client was told."""
        told = error.body()["error"]
        self.error, self.param = told["code"] or told["type"], told["param"]

    def leave(self) -> None:
        """The client has left."""
        self.has_left = True

    def end(self, tenant: Tenant | None) -> None:
        """The request of this tenant is over. A client that left before an answer began is as good as told so."""
        self.tenant = "" if tenant is None else tenant.label
        self.ended = perf_counter()
        self.status = self.status or CLIENT_CLOSED_REQUEST
        self.has_left = self.has_left or self.status == CLIENT_CLOSED_REQUEST


def record_of(scope: Scope) -> Record:
    """The record of a request, which ``Observed`` has begun."""
    record: Record = scope["state"]["record"]
    return record
