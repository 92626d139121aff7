"""ASGI middleware that asks for keys: the clients' and the admin's."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from infergc.server.entrance.paths import ADMIN_PATHS, OPEN_PATHS
from infergc.server.entrance.tenants import Keyring, Tenant
from infergc.server.errors import ApiError, error_response


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
