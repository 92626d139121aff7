"""ASGI middleware: requests with the method HEAD."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Head:
    """HEAD is answered as GET; the HTTP server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        await self.app({**scope, "method": "GET"} if is_head else scope, receive, send)
