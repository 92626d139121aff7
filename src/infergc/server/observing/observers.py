"""Who hears of each request when it is over, as the settings say: the request log and traces."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from infergc.server.observing.observed import Observer
from infergc.server.observing.request_log import request_log
from infergc.server.observing.tracing import tracing
from infergc.server.settings import ServerSettings


@contextmanager
def observing(settings: ServerSettings, say: Callable[[str], None]) -> Iterator[list[Observer]]:
    """The observers; what they have gathered leaves at the end, as far as it can within a moment.

    Args:
        settings: of the server.
        say: is called with what the operator should know, perhaps from another thread.

    Raises:
        ConfigError: the request log cannot be written, or traces cannot be sent there.
        TracingError: not without the extra.
    """
    observers: list[Observer] = []
    with ExitStack() as stack:
        if settings.request_log is not None:
            observers.append(stack.enter_context(request_log(settings.request_log, settings.model_name, say)))
        if settings.otlp_traces_endpoint is not None:
            observers.append(stack.enter_context(tracing(settings.otlp_traces_endpoint, settings.model_name, say)))
        yield observers
