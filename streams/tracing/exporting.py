"""Spans on their way to a collector, under OpenTelemetry's standard variables.

Off unless `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` is set; nothing of OpenTelemetry is
imported then.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from streams.process.logs import fields
from streams.settings import wants_traces
from streams.tracing.span import Tracer

log = logging.getLogger("spendfuse.traces")

HOW_TO_INSTALL: Final = "python -m pip install --require-hashes -r requirements/service-traces.lock"


@contextmanager
def tracing(role: str) -> Iterator[Tracer | None]:
    """What takes the spans of a process while the block lasts; None where nobody wants them, or the SDK is missing."""
    if not wants_traces():
        yield None
        return
    try:
        from streams.tracing.otel import OtelTracer
    except ImportError as error:
        log.error("no traces: a library is missing", extra=fields(missing=error.name, advice=HOW_TO_INSTALL))
        yield None
        return
    tracer = OtelTracer(role)
    try:
        yield tracer
    finally:
        tracer.close()
