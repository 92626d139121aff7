"""``infergc serve``: the OpenAI-compatible server."""

import asyncio
import shlex
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from infergc import __version__
from infergc.cli.api_keys import api_keys
from infergc.cli.engine_options import engine_options
from infergc.cli.failures import StartFailure, configured
from infergc.cli.grouped import GroupedCommand, option
from infergc.cli.ledger import disk_tier, ledger
from infergc.cli.model_dir import model_dir
from infergc.cli.seconds import WholeSeconds, at_least
from infergc.config import ConfigError, EngineConfig
from infergc.engine.messages import Ready
from infergc.params import MAX_QUEUE_TIMEOUT
from infergc.server.settings import (
    LEAST_BODY,
    LEAST_SESSION_TIMEOUT,
    LEAST_STUCK_TIMEOUT,
    MOST_CONNECTIONS,
    MOST_QUEUED,
    MOST_RESTARTS,
    ServerSettings,
)
from infergc.text.tools.formats import AUTO, CHOICES
from infergc.units import parse_bytes
from infergc.wording import shown

_SERVER = "Server"
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(cls=GroupedCommand)
@click.argument("model", metavar="[MODEL_DIR]", required=False, type=click.Path(path_type=Path))
@option(_SERVER, "--model", "model_option", metavar="DIR", type=click.Path(path_type=Path),
        help="The same as MODEL_DIR. Without either: INFERGC_MODEL, else the bundled model.")  # fmt: skip
@option(_SERVER, "--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 for all.")
@option(_SERVER, "--port", default=8000, type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@option(_SERVER, "--api-key", "keys", metavar="KEY", multiple=True, envvar="INFERGC_API_KEY", show_envvar=True,
        help="Clients must send it as a bearer token, for every path but /health. May be given several times, a key "
        "for each tenant: no tenant's cache or session is another's.")  # fmt: skip
@option(_SERVER, "--api-key-file", "key_files", metavar="FILE", multiple=True, type=_FILE,
        help="API keys, one a line. May be given several times, and with --api-key.")  # fmt: skip
@option(_SERVER, "--public-prefix", "public_prefixes", metavar="FILE", multiple=True, type=_FILE,
        help="A text whose cached pages all tenants share that begin with it, or in a .json file messages of a chat. "
        "May be given several times.")  # fmt: skip
@option(_SERVER, "--admin-key", metavar="KEY", envvar="INFERGC_ADMIN_KEY", show_envvar=True,
        help="Bearer token for looking into the heap and tuning it, at /v1/kv/. Without one nobody can.")  # fmt: skip
@option(_SERVER, "--served-model-name", metavar="NAME", help="Name in the API. Default: the directory's.")
@option(_SERVER, "--chat-template", metavar="FILE", type=_FILE,
        help="Jinja file to use instead of the model's own chat template.")  # fmt: skip
@option(_SERVER, "--tool-call-parser", default=AUTO, type=click.Choice(CHOICES),
        help="How the model writes calls of functions; auto goes by its chat template.")  # fmt: skip
@option(_SERVER, "--max-body-size", metavar="BYTES", default="8MiB", help="Largest request body.")
@option(_SERVER, "--max-connections", metavar="N", default=4096, type=click.IntRange(1, MOST_CONNECTIONS),
        help="Open connections beyond which requests get 503, but for /health and /metrics.")  # fmt: skip
@option(_SERVER, "--max-num-queued-reqs", metavar="N", default=256, type=click.IntRange(0, MOST_QUEUED),
        help="How many requests may wait to be started; others get 429 and when to come again.")  # fmt: skip
@option(_SERVER, "--queue-timeout", metavar="SECONDS", type=WholeSeconds(MAX_QUEUE_TIMEOUT),
        help="How long a request may wait to be started before it gets 503. Default: without end.")  # fmt: skip
@option(_SERVER, "--shutdown-timeout", metavar="SECONDS", default=10.0, callback=at_least(0),
        help="How long running requests may go on after SIGTERM or Ctrl-C before they are aborted.")  # fmt: skip
@option(_SERVER, "--max-engine-restarts", metavar="N", default=5, type=click.IntRange(0, MOST_RESTARTS),
        help="How often in ten minutes an engine that died is started again; then the server ends.")  # fmt: skip
@option(_SERVER, "--stuck-timeout", metavar="SECONDS", default=120.0, callback=at_least(LEAST_STUCK_TIMEOUT),
        help="How long a step may take until /health gets 503.")  # fmt: skip
@option(_SERVER, "--restart-stuck-engine", is_flag=True,
        help="Kill an engine whose step takes longer than --stuck-timeout, too, and start another.")  # fmt: skip
@option(_SERVER, "--session-timeout", metavar="SECONDS", default=600.0, callback=at_least(LEAST_SESSION_TIMEOUT),
        help="How long the KV of a session is kept that no request uses.")  # fmt: skip
@option(_SERVER, "--request-log", metavar="FILE",
        help="Append a line of JSON for each request: times, tokens, its end, no text. - is stderr.")  # fmt: skip
@option(_SERVER, "--otlp-traces-endpoint", metavar="URL",
        help="Send a span of each request there, as http://HOST:4318/v1/traces. Needs the extra otel.")  # fmt: skip
@engine_options
def serve(
    model: Path | None,
    model_option: Path | None,
    host: str,
    port: int,
    keys: tuple[str, ...],
    key_files: tuple[Path, ...],
    public_prefixes: tuple[Path, ...],
    admin_key: str | None,
    served_model_name: str | None,
    chat_template: Path | None,
    tool_call_parser: str,
    max_body_size: str,
    max_connections: int,
    max_num_queued_reqs: int,
    queue_timeout: int | None,
    shutdown_timeout: float,
    max_engine_restarts: int,
    stuck_timeout: float,
    restart_stuck_engine: bool,
    session_timeout: float,
    request_log: str | None,
    otlp_traces_endpoint: str | None,
    **engine: Any,
) -> None:
    """Serve a model over an OpenAI-compatible API.

    MODEL_DIR is the directory of a Hugging Face model; without one the bundled model is served.
    """
    tenants = api_keys(keys, key_files)
    _check_admin_key(admin_key, tenants)
    if served_model_name == "":
        raise click.UsageError("--served-model-name: must not be empty; leave it out for the directory's name")
    directory = _directory(model, model_option)
    config = configured(model=directory, **engine)
    if public_prefixes and not config.enable_prefix_caching:
        raise click.UsageError("--public-prefix: is only allowed with --enable-prefix-caching: else nothing is shared")
    settings = ServerSettings(
        model_name=served_model_name or directory.resolve().name,
        host=host,
        port=port,
        api_keys=tenants,
        admin_key=admin_key,
        public_prefixes=public_prefixes,
        chat_template=chat_template,
        tool_call_parser=tool_call_parser,
        max_body_bytes=_size(max_body_size),
        max_connections=max_connections,
        max_num_queued_reqs=max_num_queued_reqs,
        queue_timeout=queue_timeout,
        shutdown_timeout=shutdown_timeout,
        max_engine_restarts=max_engine_restarts,
        stuck_timeout=stuck_timeout,
        restart_stuck_engine=restart_stuck_engine,
        session_timeout=session_timeout,
        request_log=request_log,
        otlp_traces_endpoint=otlp_traces_endpoint,
    )
    _run(config, settings)


def _run(config: EngineConfig, settings: ServerSettings) -> None:
    """Serve until the server is told to stop; exit code 1 if its engine did not live so long."""
    from infergc.server.run import run_server  # noqa: PLC0415 - heavy, and --help must not wait for it

    def announce(ready: Ready, url: str) -> None:
        click.echo(_announcement(config, ready, url, settings.model_name, _authorization(settings.api_keys)))

    try:
        engine_lived = asyncio.run(run_server(config, settings, announce, _say))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise StartFailure(str(error)) from error
    if not engine_lived:
        raise click.exceptions.Exit(StartFailure.exit_code)


def _say(text: str) -> None:
    """On stderr, with the time as the engine's log has it."""
    click.echo(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S,%f}"[:-3] + f" {text}", err=True)


def _directory(argument: Path | None, option: Path | None) -> Path:
    if argument is not None and option is not None:
        raise click.UsageError("--model: the model is already named as MODEL_DIR; give one of the two")
    return model_dir(argument or option, "MODEL_DIR" if argument else "--model")


def _check_admin_key(key: str | None, others: Collection[str]) -> None:
    if key is not None and key in {"", *others}:
        raise click.UsageError("--admin-key: must not be empty, nor the API key, which every client has")


def _size(text: str) -> int:
    try:
        size = parse_bytes(text)
    except ValueError as error:
        raise click.UsageError(f"--max-body-size: {error}") from None
    if size < parse_bytes(LEAST_BODY):
        raise click.UsageError(f"--max-body-size: {shown(text)} is not allowed; it must be ≥ {LEAST_BODY}")
    return size


def _authorization(keys: tuple[str, ...]) -> str:
    """The header in the line to try; a key is not shown."""
    if not keys:
        return ""
    source = click.get_current_context().get_parameter_source("keys")
    stand_in = "$INFERGC_API_KEY" if source is ParameterSource.ENVIRONMENT else "YOUR_KEY"
    return f'-H "Authorization: Bearer {stand_in}" '


def _announcement(config: EngineConfig, ready: Ready, url: str, name: str, header: str) -> str:
    body = f'{{"model": "{name}", "prompt": "Once upon a time", "max_tokens": 32, "temperature": 0.7}}'
    return "\n".join(
        (
            f"infergc {__version__} serves {name} at {url}",
            *ledger(ready),
            *disk_tier(config),
            "Try:",
            f"  curl {url}/v1/completions {header}-H 'Content-Type: application/json' -d {shlex.quote(body)}",
        )
    )
