"""ASGI middleware around the whole app: HEAD, keys, the size and the encoding of a body."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infergc.server.entrance.tenants import Keyring, Tenant
from infergc.server.errors import ApiError, error_response
from infergc.units import format_bytes
from infergc.wording import shown

OPEN_PATHS = frozenset({"/health", "/health/ready", "/health/live"})
ADMIN_PATHS = "/v1/kv/"


class Head:
    """HEAD is answered as GET; the HTTP server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        await self.app({**scope, "method": "GET"} if is_head else scope, receive, send)


class Keys:
    """Paths want ``Authorization: Bearer <key>``: under ``/v1/kv/`` the admin's, else the clients', ``/health`` none.

    Where there is no key of the kind, nothing is asked; without an admin key, ``/v1/kv/`` is a path like any other.
    Comparing takes the same time whatever was sent. Whose API key it was is in the state: ``tenants.tenant_of``.
    """

    def __init__(self, app: ASGIApp, keys: Keyring, admin_key: str | None) -> None:
        self.app = app
        self._keys = keys
        self._admin = Keyring(() if admin_key is None else (admin_key,))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what holds the key."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        is_admin = bool(self._admin) and scope["path"].startswith(ADMIN_PATHS)
        keys = self._admin if is_admin else self._keys
        tenant = _holder(scope, keys) if keys else Tenant()
        if tenant is not None:
            scope.setdefault("state", {})["tenant"] = tenant
            await self.app(scope, receive, send)
            return
        name, code = ("admin", "invalid_admin_key") if is_admin else ("API", "invalid_api_key")
        message = f"missing or wrong {name} key; send it as 'Authorization: Bearer <key>'"
        error = ApiError(HTTPStatus.UNAUTHORIZED, message, code=code)
        await error_response(error, {"www-authenticate": "Bearer"})(scope, receive, send)


def _holder(scope: Scope, keys: Keyring) -> Tenant | None:
    """Whose key a request carries."""
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    return keys.tenant(key.encode("latin-1")) if scheme == "Bearer" else None  # the bytes as they came


class BodyLimit:
    """A body over ``limit`` bytes gets a 413 as soon as that is known; at most ``limit`` bytes are ever held.

    A compressed one gets a 415, since nothing here would unpack it.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, counting."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if refused := self._refused(Headers(scope=scope)):
            await error_response(refused)(scope, receive, send)
            return
        await self.app(scope, _Counted(receive, self.limit).receive, send)

    def _refused(self, headers: Headers) -> ApiError | None:
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.limit:
            return _too_large(self.limit)
        encoding = headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            message = f"Content-Encoding: {shown(encoding)} is not taken; send the body as it is"
            return ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, code="unsupported_encoding")
        return None


def _too_large(limit: int) -> ApiError:
    message = f"the request body is larger than the {format_bytes(limit)} allowed (--max-body-size)"
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, code="request_too_large")


class _Counted:
    """A ``receive`` that counts."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._left = limit

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _too_large(self._limit)
        return message
