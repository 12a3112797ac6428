"""`python -m streams reconcile run`: one pass, or one after another until told to end."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from schemas.duration import MINUTE_MS
from schemas.edge.provider_usage import ProviderUsage
from schemas.errors import BrokerError
from streams.clock import monotonic_ms, pause, wall_ms
from streams.kafka.admin import existing_topics
from streams.process.broker_watch import BrokerWatch
from streams.process.logs import fields
from streams.process.policies import policy_in_force
from streams.process.service import claimed_settings, watched
from streams.process.watchdog import when_told_to_end
from streams.reconcile.compare import DayDifference, compare
from streams.reconcile.config import Console, read_consoles
from streams.reconcile.days import last_days
from streams.reconcile.facts import TOPIC, news, read_facts, write_facts
from streams.reconcile.metrics import ReconcileMetrics
from streams.reconcile.ours import count_ours, kept_since_ms
from streams.reconcile.sources import reports_of
from streams.reconcile.sources.paging import Wait
from streams.reconcile.telling import as_data, as_text
from streams.settings import Settings, read_settings

log = logging.getLogger("spendfuse.reconcile")

TOLD: Final = 3
"""What one pass ends with where a difference is told, or a day could not be compared."""
BEAT_S: Final = 1.0
PASS_MS: Final = 30 * MINUTE_MS
"""How long a pass may take: it reads all of usage.v1 since the first day that is asked for."""


class Pass(NamedTuple):
    """What one pass has found."""

    differences: list[DayDifference]
    corrected: list[ProviderUsage]
    """What providers have said now in place of a figure that was to be believed."""

    @property
    def exit_code(self) -> int:
        """0 where every day was compared and no difference is told."""
        is_told = any(one.standing == "not known" or one.told for one in self.differences)
        return TOLD if is_told else 0


def run_once(path: Path, days: int, *, as_json: bool) -> int:
    """Fetch, write facts, compare, print; 3 where a difference is told or a day is not known. Raises
    `SpendfuseError`.
    """
    settings, consoles = read_settings(), read_consoles(path)
    existing_topics(settings, (TOPIC, "usage.v1"))
    found = one_pass(settings, consoles, days, wait=pause, progress=True)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(as_data(*found)), indent=2).decode())
    else:
        print(as_text(*found))
    return found.exit_code


def run_on(path: Path, days: int, every_ms: int) -> int:
    """One pass after another, until told to end. Raises `SpendfuseError` for what is wrong from the start."""
    with claimed_settings("reconcile") as settings:
        consoles = read_consoles(path)
        existing_topics(settings, (TOPIC, "usage.v1"))
        metrics, broker, end = ReconcileMetrics(), BrokerWatch(settings), threading.Event()
        loop = Loop(settings, consoles, days, every_ms, metrics, end)
        when_told_to_end(end.set)
        with watched(settings, metrics, broker, lambda: loop.beat_ms, loop.fault):
            loop.go_on()
    return 0


def one_pass(
    settings: Settings,
    consoles: Sequence[Console],
    days: int,
    *,
    wait: Wait,
    progress: bool = False,
    beat: Callable[[], None] = lambda: None,
) -> Pass:
    """Fetch what the consoles say, keep it, and compare. A console that cannot be asked holds up no other.

    Raises:
        BrokerError: facts cannot be read or written, or our own side cannot be read.
    """
    now_ms = wall_ms()
    span = last_days(days, now_ms)
    known = read_facts(settings)
    counted = count_ours(
        settings, consoles, policy_in_force(settings).header, span, now_ms, progress=progress, beat=beat
    )
    found = Pass([], [])
    for console in consoles:
        beat()
        reports = reports_of(console, span, wait)
        said = [fact for report in reports for fact in news(console, report, known, wall_ms())]
        write_facts(settings, said)
        found.corrected.extend(fact for fact in said if fact.before is not None)
        found.differences.extend(compare(console, reports, counted, span, now_ms, kept_since_ms(now_ms)))
    return found


class Loop:
    """Passes at their times."""

    def __init__(
        self,
        settings: Settings,
        consoles: Sequence[Console],
        days: int,
        every_ms: int,
        metrics: ReconcileMetrics,
        end: threading.Event,
    ) -> None:
        self.beat_ms = monotonic_ms()
        """When it last showed that it moves."""
        self._settings = settings
        self._consoles = consoles
        self._days = days
        self._every_ms = every_ms
        self._metrics = metrics
        self._end = end
        self._passed_ms = monotonic_ms()
        for console in consoles:
            metrics.corrections.labels(console.name)
        metrics.since_pass_seconds.set_function(lambda: (monotonic_ms() - self._passed_ms) / 1000)

    def fault(self) -> str | None:
        """Whether no pass came to its end for too long."""
        since_ms = monotonic_ms() - self._passed_ms
        return (
            f"no pass has come to its end for {since_ms // 1000} s" if since_ms > 2 * self._every_ms + PASS_MS else None
        )

    def go_on(self) -> None:
        """Pass after pass, until it is to end."""
        while not self._end.is_set():
            begun_ms = monotonic_ms()
            self._pass()
            self._rest(max(0, self._every_ms - (monotonic_ms() - begun_ms)) / 1000)

    def _pass(self) -> None:
        try:
            found = one_pass(self._settings, self._consoles, self._days, wait=self._rest, beat=self._beat)
        except BrokerError as error:
            log.error("a pass did not come to its end: %s", error)
            return
        self._passed_ms = monotonic_ms()
        show(found, self._metrics)
        for one in found.differences:
            tell(one)

    def _rest(self, length_s: float) -> None:
        until_ms = monotonic_ms() + length_s * 1000
        while not self._end.is_set() and (left_ms := until_ms - monotonic_ms()) > 0:
            self._beat()
            self._end.wait(min(BEAT_S, left_ms / 1000))

    def _beat(self) -> None:
        self.beat_ms = monotonic_ms()


def show(found: Pass, metrics: ReconcileMetrics) -> None:
    """A pass as metrics."""
    for console, report in {(one.console, one.report) for one in found.differences}:
        days = [one for one in found.differences if (one.console, one.report) == (console, report)]
        metrics.difference_share.labels(console, report).set(max(one.told_share for one in days))
        metrics.days_not_known.labels(console, report).set(sum(one.standing == "not known" for one in days))
    for fact in found.corrected:
        metrics.corrections.labels(fact.console).inc()


def tell(one: DayDifference) -> None:
    """A line of the log for a day that differs or is not known."""
    place = fields(console=one.console, day=one.day, report=one.report, standing=one.standing)
    if one.standing == "not known":
        log.error("a day could not be compared: %s", one.why, extra=place)
    elif one.told:
        log.warning(
            "a day differs from what its provider says: %d figures, %.1f %% of the day",
            len(one.told),
            100 * one.told_share,
            extra=place,
        )
