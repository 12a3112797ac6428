"""Spans handed to OpenTelemetry's own SDK and exporter, which read the standard variables themselves.

A collector that is away or broken costs spans, beyond the SDK's bounded queue, and nothing else: no wait, no error.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from streams.tracing.span import Span

log = logging.getLogger("spendfuse.traces")

MOST_AT_ONCE: Final = 500
"""Spans taken at once: a storm of alerts must not hold up the loop."""
END_S: Final = 2.0
"""How long the end of a process waits for what is queued."""
NS_OF_A_MS: Final = 1_000_000


class OtelTracer:
    """Gives spans their ids and times, and puts them into the SDK's queue."""

    def __init__(self, role: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it tells of every batch that fails
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": f"spendfuse-{role}"}),
            sampler=ALWAYS_ON,
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._exporter = _Telling()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("spendfuse")
        self._one_by_one = threading.Lock()
        self._has_failed = False
        log.info("what follows from a cause is exported as traces")

    def record(self, spans: Iterable[Span]) -> None:
        """Queue them; where the queue is full the oldest go."""
        try:
            with self._one_by_one:
                for span in islice(spans, MOST_AT_ONCE):
                    self._add(span)
        except Exception:  # a fault of ours or of the SDK: it must not cost a commit
            if not self._has_failed:
                log.exception("spans could not be made; it is not told again")
            self._has_failed = True

    def close(self) -> None:
        """Send what is queued, within `END_S`: the SDK itself would wait half a minute for a broken collector."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(END_S)
        self._exporter.is_over = True

    def _add(self, span: Span) -> None:
        self._ids.given = (span.trace_id, span.span_id)
        start_ns = int(span.start_ms * NS_OF_A_MS)
        added = self._tracer.start_span(span.name, _below(span), attributes=span.attributes, start_time=start_ns)
        if span.error is not None:
            added.set_status(Status(StatusCode.ERROR, span.error))
        added.end(max(start_ns, int(span.end_ms * NS_OF_A_MS)))


def _below(span: Span) -> Context:
    """The context in which it hangs below the root of its trace; an empty one for the root."""
    if span.parent_id is None:
        return Context()
    root = SpanContext(span.trace_id, span.parent_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(root), Context())


class _GivenIds(IdGenerator):
    """The ids of the span that is added next."""

    given = (1, 1)

    def generate_trace_id(self) -> int:
        return self.given[0]

    def generate_span_id(self) -> int:
        return self.given[1]


class _Telling(OTLPSpanExporter):
    """Says once that the collector does not take spans, and once that it does again."""

    is_over = False
    """Nobody waits any more for what is under way."""
    _fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if self.is_over:
            return result
        if fails and not self._fails:
            log.warning("the collector of traces does not take them; they are dropped meanwhile")
        elif self._fails and not fails:
            log.info("the collector of traces takes them again")
        self._fails = fails
        return result
