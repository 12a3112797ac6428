"""Spans of a cause: each process tells its part of what follows from one event, and all parts make one trace.

Nothing is passed from process to process: every id follows from the tenant and the cause's `event_id`, so that worker,
alerting and gateway name the same trace without having heard of each other, and what is done twice is one span.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from schemas.signing import part

TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8
ROOT: Final = "cause"
"""The part that all others hang from; the worker tells it."""


class Span(NamedTuple):
    """A stretch of time in the trace of a cause. Times are epoch milliseconds.

    `name` is one of a few; `part` tells it from the others of its trace. `attributes` hold ids, names of rules and
    receivers, numbers: never text.
    """

    tenant_id: str
    cause: str
    name: str
    part: str
    start_ms: float
    end_ms: float
    attributes: Mapping[str, str | int]
    error: str | None = None
    """In a word why it failed; None if it did not."""

    @property
    def trace_id(self) -> int:
        """The id of its trace."""
        return trace_id(self.tenant_id, self.cause)

    @property
    def span_id(self) -> int:
        """Its own id."""
        return span_id(self.tenant_id, self.cause, self.part)

    @property
    def parent_id(self) -> int | None:
        """The id of the root; None for itself."""
        return None if self.part == ROOT else span_id(self.tenant_id, self.cause, ROOT)


class Tracer(Protocol):
    """Takes spans. It neither waits nor fails."""

    def record(self, spans: Iterable[Span]) -> None:
        """Take what has happened."""


def trace_id(tenant_id: str, cause: str) -> int:
    """The trace of what follows from an event; no two tenants share one, also where their events have the same id.

    >>> f"{trace_id('acme', 'e-1'):032x}"
    'e7f58329b2f842de141c711591841669'
    """
    return _hashed(f"trace|{part(tenant_id)}|{part(cause)}", TRACE_BYTES)


def span_id(tenant_id: str, cause: str, name: str) -> int:
    """The id of a part of that trace."""
    return _hashed(f"span|{part(tenant_id)}|{part(cause)}|{name}", SPAN_BYTES)


def _hashed(text: str, length: int) -> int:
    """Never 0, which is no id."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:length]) or 1
