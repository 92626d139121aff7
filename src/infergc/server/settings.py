"""What shapes the server itself; the engine has its own configuration."""

from dataclasses import dataclass, field
from pathlib import Path

from infergc.units import MIB

LEAST_BODY = "1KiB"
MOST_QUEUED = 1 << 20
LEAST_SESSION_TIMEOUT = 0.1  # seconds
MOST_CONNECTIONS = 1 << 20
MOST_RESTARTS = 1000
LEAST_STUCK_TIMEOUT = 0.5  # seconds
MOST_SECONDS = 1e9  # of any time-out; the largest that asyncio waits for is finite


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of one server.

    Attributes:
        model_name: the model's name in the API.
        host, port: where to listen; port 0 takes a free one.
        api_keys: of which clients must send one, each its own tenant's; none lets everyone in.
        admin_key: what who inspects and tunes the heap must send; None: nobody can.
        public_prefixes: files of texts that all tenants may share pages of.
        chat_template: file used instead of the model's own template.
        tool_call_parser: how the model writes calls of functions, one of ``text.tools.formats.CHOICES``.
        max_body_bytes: largest request body, at least ``LEAST_BODY``.
        max_connections: beyond which requests get 503, 1 to ``MOST_CONNECTIONS``.
        max_num_queued_reqs: choices of requests that may wait to be started, 0 to ``MOST_QUEUED``.
        queue_timeout: seconds after which a request that was not started is refused, 1 to a day; None: never.
        shutdown_timeout: seconds that running requests may go on once the server is told to stop, ≥ 0.
        max_engine_restarts: how often within ten minutes an engine that died is started again, 0 to ``MOST_RESTARTS``.
        stuck_timeout: seconds without a step after which an engine with work is stuck, ≥ ``LEAST_STUCK_TIMEOUT``.
        restart_stuck_engine: whether such an engine is killed and started again.
        session_timeout: seconds without a request after which a session is closed, ≥ ``LEAST_SESSION_TIMEOUT``.
        request_log: file to which a line is appended for each request, "-" for stderr; None: nowhere.
        otlp_traces_endpoint: URL to which a span of each request is sent; None: nowhere.
    """

    model_name: str
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    admin_key: str | None = field(default=None, repr=False)
    public_prefixes: tuple[Path, ...] = ()
    chat_template: Path | None = None
    tool_call_parser: str = "auto"
    max_body_bytes: int = 8 * MIB
    max_connections: int = 4096
    max_num_queued_reqs: int = 256
    queue_timeout: int | None = None
    shutdown_timeout: float = 10.0
    max_engine_restarts: int = 5
    stuck_timeout: float = 120.0
    restart_stuck_engine: bool = False
    session_timeout: float = 600.0
    request_log: str | None = None
    otlp_traces_endpoint: str | None = None
