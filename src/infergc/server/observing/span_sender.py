"""What sends batches of spans by OTLP over HTTP, and says once where that fails. Needs the extra otel."""

from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from infergc.wording import counted

_SEND_SECONDS = 5.0  # for one batch, repetitions included


class SpanSender(SpanExporter):
    """Sends spans. Those that nobody takes are lost: it says so at the first, and how many when that is over.

    Args:
        endpoint: URL that takes OTLP over HTTP.
        flag: that gave it.
        say: is called with what the operator should know, from the library's thread.
    """

    def __init__(self, endpoint: str, flag: str, say: Callable[[str], None]) -> None:
        self._endpoint = endpoint
        self._flag = flag
        self._say = say
        self._exporter = OTLPSpanExporter(endpoint, timeout=_SEND_SECONDS)
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._tell_lost("Spans are taken again by")
        else:
            if not self._lost:
                self._say(
                    f"Error: {self._flag}: {self._endpoint} does not take spans; requests are served, these are lost"
                )
            self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        """No more will come."""
        self._tell_lost("To the end spans were not taken by")
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the library does not say

    def _tell_lost(self, what: str) -> None:
        if self._lost:
            self._say(f"{what} {self._endpoint} ({self._flag}); {counted(self._lost, 'span')} lost")
        self._lost = 0
