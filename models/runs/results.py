"""What finished runs have come to: booked at their end and at their outcome, and judged once an hour."""

from typing import Any, Final

from models.attribution import OVERFLOW
from models.commands.enforcement import Enforcement
from models.detectors.base import ResultDetector
from models.incidents.incident import Subject
from models.rules.finding import Finding
from models.state.partition import PartitionState
from models.state.spend.results import UNKNOWN, Booked, ResultBook
from models.state.tenant import Tenant
from models.state.units.route import Route
from models.state.units.runs import Run
from schemas.duration import HOUR_MS
from schemas.usage import UNATTRIBUTED

MOST_DEAR: Final = 3
"""Runs of one book that an alert names."""


class ResultBooks:
    """The books of a partition. A run stands in them once, under its last outcome, at what it has cost."""

    def __init__(self, state: PartitionState, enforcement: Enforcement) -> None:
        self._state = state
        self._enforcement = enforcement

    def book(self, tenant: Tenant, run: Run, route: Route) -> None:
        """Count a run that has ended; again after `unbook`, if something about it has changed."""
        if run.booked is not None or run.state == "live" or not run.unit_id or not route.result_rules:
            return
        outcome = run.outcome or UNKNOWN
        hour_ms = run.ended_ms - run.ended_ms % HOUR_MS
        retried_nanousd = min(run.retried_nanousd, run.cost_nanousd)
        keys: list[tuple[str, str, str, bool]] = []
        for rule in route.result_rules:
            value = _value_of(run, rule)
            if value is None or any(key[0] == rule.book_id for key in keys):
                continue
            book = self._find(tenant, rule.book_id, route.workflow, value)
            dear = rule.is_dear(book.usual_nanousd, run.cost_nanousd)
            book.add(hour_ms, outcome, run.cost_nanousd, retried_nanousd, dear=dear, sign=1)
            book.owner = None if route.owner == UNATTRIBUTED else route.owner
            if dear and run.unit_id not in book.latest_dear:
                book.latest_dear = [*book.latest_dear[1 - MOST_DEAR :], run.unit_id]
            keys.append((*book.key, dear))
            self._changed(tenant, book)
        if keys:
            run.booked = Booked(hour_ms, run.cost_nanousd, retried_nanousd, tuple(keys))
            self._state.touch(run)

    def unbook(self, tenant: Tenant, run: Run) -> None:
        """Take a run out of the books: it goes on, or something about it is about to change."""
        booked = run.booked
        if booked is None:
            return
        run.booked = None
        self._state.touch(run)
        for book_id, workflow, value, dear in booked.books:
            book = tenant.results.get((book_id, workflow, value))
            if book is not None:
                cost_nanousd, retried_nanousd = booked.cost_nanousd, booked.retried_nanousd
                outcome = run.outcome or UNKNOWN
                book.add(booked.hour_ms, outcome, cost_nanousd, retried_nanousd, dear=dear, sign=-1)
                self._changed(tenant, book)

    def due(self, tenant: Tenant, key: tuple[str, ...], now_ms: int) -> None:
        """An hour is over: cohorts have closed. Or what a book holds is so old that nobody asks for it any more."""
        book = tenant.results.get((key[0], key[1], key[2]))
        if book is None or book.due_ms != now_ms:
            return
        rules = self._state.policy.result_rules_of.get(book.book_id, ())
        for rule in rules:
            for finding in rule.judge(book, now_ms):
                self._enforcement.apply(tenant, rule, finding, _subject(tenant, rule, book, finding, now_ms), now_ms)
        book.usual_nanousd = max((rule.usual_nanousd(book, now_ms) for rule in rules), default=0)
        book.merge(now_ms, max([rule.grace_ms for rule in rules], default=0))
        graces_ms = [rule.grace_ms for rule in rules]
        self._wait(tenant, book, book.next_due_ms(now_ms, graces_ms))

    def _find(self, tenant: Tenant, book_id: str, workflow: str, value: str) -> ResultBook:
        """A book by its key; what is beyond the tenant's limit of them stands in one for all."""
        book = tenant.results.get((book_id, workflow, value))
        if book is None:
            if len(tenant.results) >= self._state.policy.header.max_workflows_per_tenant:
                workflow, value = OVERFLOW, value and OVERFLOW
            key = (book_id, workflow, value)
            book = tenant.results.get(key) or ResultBook(tenant.tenant_id, *key)
            tenant.results[key] = book
        return book

    def _changed(self, tenant: Tenant, book: ResultBook) -> None:
        """What a book holds is another: it is looked at when its moment of the hour comes."""
        now_ms = self._state.now_ms
        due_ms = book.next_hour_ms(now_ms)
        if now_ms < book.due_ms < due_ms:
            due_ms = book.due_ms
        self._wait(tenant, book, due_ms if book.hours or book.days else 0)

    def _wait(self, tenant: Tenant, book: ResultBook, due_ms: int) -> None:
        """Have it looked at then, or forget it where that is never."""
        if not due_ms:
            tenant.results.pop(book.key, None)
            self._state.forget(book)
            return
        if due_ms != book.due_ms:
            book.due_ms = due_ms
            tenant.wake_at(due_ms, book.kind, book.key)
        self._state.touch(book)


def _value_of(run: Run, rule: ResultDetector[Any]) -> str | None:
    """What tells a run's book from others of its workflow; None where the rule has nothing to say of the run."""
    if rule.per == "workflow":
        return ""
    if rule.per == "expected_outcome":
        return run.expected_outcome
    return run.attribution().get(rule.per)


def _subject(tenant: Tenant, rule: ResultDetector[Any], book: ResultBook, finding: Finding, now_ms: int) -> Subject:
    window = finding.window
    cut = {rule.per: book.value} if book.value else {}
    return Subject(
        key=(*book.key,) if window is None else (*book.key, window.start_ms),
        scope={"tenant_id": tenant.tenant_id, "workflow": book.workflow, **cut},
        owner=book.owner,
        window_start_ms=None if window is None else window.start_ms,
        window_end_ms=None if window is None else window.end_ms,
        ends_ms=finding.ends_ms or now_ms + finding.lasts_ms,
    )
