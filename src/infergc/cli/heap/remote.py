"""A running server, as the heap's commands reach it: one request, and what went wrong in a line."""

import json
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import click

from infergc.cli.failures import StartFailure
from infergc.cli.grouped import option

_SECONDS = 60
_SERVER = "Server"

_Function = TypeVar("_Function", bound=Callable[..., Any])


def server_options(function: _Function) -> _Function:
    """``--url`` and ``--admin-key``, passed on as ``url`` and ``admin_key``."""
    url = option(_SERVER, "--url", default="http://127.0.0.1:8000", callback=_address, help="Where the server listens.")
    key = option(
        _SERVER,
        "--admin-key",
        metavar="KEY",
        envvar="INFERGC_ADMIN_KEY",
        show_envvar=True,
        help="The key that the server was started with.",
    )
    return url(key(function))


def call(method: str, url: SplitResult, path: str, admin_key: str | None) -> dict[str, Any]:
    """Send a request without a body and give the JSON object that is answered.

    Raises:
        StartFailure: there is no answer, or it is an error; the message says which.
    """
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_SECONDS)
    try:
        connection.request(method, url.path.rstrip("/") + path, headers=_authorization(admin_key))
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    except (OSError, HTTPException) as error:
        raise StartFailure(f"--url: {url.geturl()} does not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
    return _checked(status, body, url, admin_key)


def _authorization(admin_key: str | None) -> dict[str, bytes]:
    """The header, in UTF-8: the server compares bytes."""
    return {"Authorization": f"Bearer {admin_key}".encode()} if admin_key else {}


def _checked(status: int, body: bytes, url: SplitResult, admin_key: str | None) -> dict[str, Any]:
    try:
        content = json.loads(body)
        message, code = ("", "") if status == 200 else (str(content["error"][part]) for part in ("message", "code"))
    except (ValueError, KeyError, TypeError):
        raise StartFailure(
            f"--url: {url.geturl()} is no server of this kind: it answers with status {status}"
        ) from None
    if status == 404 or code == "invalid_api_key":  # without a key for it the path is like any other, for clients
        raise StartFailure(f"{url.geturl()} shows nobody its heap: start it with --admin-key")
    if status == 401:
        wrong = "is not the server's" if admin_key else "is missing"
        raise StartFailure(
            f"--admin-key: {wrong}; give the key that the server was started with, or set INFERGC_ADMIN_KEY"
        )
    if message or not isinstance(content, dict):
        raise StartFailure(message or f"--url: {url.geturl()} is no server of this kind")
    return content


def _address(_: click.Context, __: click.Parameter, value: str) -> SplitResult:
    try:
        address = urlsplit(value)
        if address.scheme in {"http", "https"} and address.hostname and address.port != 0:
            return address
    except ValueError:
        pass  # a port or an IPv6 address that is none
    raise click.BadParameter(f"{value!r} is no address such as http://127.0.0.1:8000")
