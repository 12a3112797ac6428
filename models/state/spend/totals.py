"""Hourly totals of a workflow, sent out as rollups a few seconds after they changed."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from models.state.rows import MAX_INTEGER, PLAIN, Row
from models.state.spend.breakdown import Names, Portion, Span
from schemas.duration import HOUR_MS
from schemas.rollup import Rollup, Share

FLUSH_MS: Final = 10_000
"""A running hour is written at most this often per workflow."""
KEEP_MS: Final = 25 * HOUR_MS
"""How long after its end an hour can still be corrected: late events arrive for up to a day."""

COUNTERS: Final = (
    "cost_nanousd", "calls", "tool_calls", "retries", "errors", "input_tokens", "output_tokens", "unpriced_calls",
    "unpriced_tokens", "blind_tool_calls", "runs_started", "runs_finished", "accepted", "edited", "rejected",
    "escalated",
)  # fmt: skip

_read_counters: Callable[[Any], tuple[int, ...]] = attrgetter(*COUNTERS)


class HourTotals(Row):
    """What one workflow did in one hour. `flush_ms` is when its next rollup is due, 0 while nothing has changed.

    With `booked_ms`, what was booked in the hour that began then, of an hour whose own totals may be gone already.
    """

    __slots__ = (
        *COUNTERS, "booked_ms", "due_ms", "end_ms", "flush_ms", "key", "portions", "span", "start_ms", "tenant_id",
        "unread", "workflow",
    )  # fmt: skip
    kind = "totals"

    def __init__(self, tenant_id: str, workflow: str, start_ms: int, end_ms: int, booked_ms: int | None = None) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.workflow = workflow
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.booked_ms = booked_ms
        self.key = totals_key(workflow, start_ms, booked_ms)
        """What tells it from the tenant's other totals."""
        self.due_ms = 0
        self.flush_ms = 0
        self.portions: dict[Names, Portion] = {}
        """What was spent since the sums by name were last written."""
        self.unread: Sequence[Any] = ()
        """The portions of the row that was restored, until `restore_portions`."""
        self.span = Span()
        self.cost_nanousd = 0
        self.calls = 0
        self.tool_calls = 0
        self.retries = 0
        self.errors = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.unpriced_calls = 0
        self.unpriced_tokens = 0
        self.blind_tool_calls = 0
        """Tool calls without `args_hash`: nobody knows whether one is like another."""
        self.runs_started = 0
        self.runs_finished = 0
        self.accepted = 0
        self.edited = 0
        self.rejected = 0
        self.escalated = 0

    def restore_portions(self, names: Mapping[int, Names]) -> None:
        """Take over the portions of the row, once it is known which attributions have which numbers."""
        for number, *sums in self.unread:
            portion = self.portions[names[number]] = Portion(names[number], number, self.span)
            portion.cost_nanousd, portion.calls, portion.input_tokens, portion.output_tokens = sums
        self.unread = ()

    def take_portions(self) -> list[Portion]:
        """What was spent since the last call, by attribution. It is counted in new ones from here on."""
        portions = list(self.portions.values())
        self.portions = {}
        self.span = Span()
        return portions

    def rollup(self, ts_ms: int, by: dict[str, dict[str, Share]]) -> Rollup:
        """The hour so far, as rollups.v1 tells it."""
        counters: dict[str, Any] = dict(zip(COUNTERS, self._counters(), strict=True))
        return Rollup(
            tenant_id=self.tenant_id,
            workflow=self.workflow,
            hour_start_ms=self.start_ms,
            hour_end_ms=self.end_ms,
            ts_ms=ts_ms,
            booked_hour_ms=self.booked_ms,
            by=by,
            **counters,
        )

    @property
    def keep_until_ms(self) -> int:
        """From when on nothing can change it any more."""
        return self.end_ms + KEEP_MS if self.booked_ms is None else self.booked_ms + HOUR_MS

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, *self.key)

    def header(self) -> tuple[int, int, int]:
        return self.due_ms, 0, PLAIN

    def fields(self) -> tuple[Any, ...]:
        counters = _read_counters(self)
        if max(counters) >= MAX_INTEGER:
            counters = self._counters()
            portions = [(one.number, *one.sums()) for one in self.portions.values()]
        else:
            portions = [
                (one.number, one.cost_nanousd, one.calls, one.input_tokens, one.output_tokens)
                for one in self.portions.values()
            ]
        return (self.end_ms, self.flush_ms, portions or 0, *counters)

    def _counters(self) -> tuple[int, ...]:
        counters = _read_counters(self)
        if max(counters) > MAX_INTEGER:
            return tuple(min(counter, MAX_INTEGER) for counter in counters)
        return counters

    @classmethod
    def read(cls, parts: tuple[str, ...], due_ms: int, fields: tuple[Any, ...]) -> "HourTotals":
        """Totals as their row holds them."""
        tenant_id, workflow, start_ms, *booked = parts
        totals = cls(tenant_id, workflow, int(start_ms), fields[0], int(booked[0]) if booked else None)
        totals.flush_ms = fields[1]
        totals.due_ms = due_ms
        totals.unread = fields[2] or ()
        for name, value in zip(COUNTERS, fields[3:], strict=True):
            setattr(totals, name, value)
        return totals


def totals_key(workflow: str, start_ms: int, booked_ms: int | None = None) -> tuple[str, ...]:
    """What a tenant's totals of a workflow and an hour are known by, and those booked later in another hour."""
    return (workflow, str(start_ms)) if booked_ms is None else (workflow, str(start_ms), str(booked_ms))
