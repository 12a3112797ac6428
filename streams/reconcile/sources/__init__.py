"""Where the figures of providers come from."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from streams.reconcile.config import Console, Source
from streams.reconcile.days import Days
from streams.reconcile.sources import anthropic, google, openai
from streams.reconcile.sources.paging import Wait
from streams.reconcile.sources.report import Fetched


class _Provider(NamedTuple):
    reports: Callable[[Console, Days, Wait], list[Fetched]]
    totals: Callable[[Mapping[str, int]], dict[str, int]]


_PROVIDERS: Final[Mapping[Source, _Provider]] = {
    "openai": _Provider(openai.reports, openai.totals),
    "anthropic": _Provider(anthropic.reports, anthropic.totals),
    "google": _Provider(google.reports, google.totals),
}


def reports_of(console: Console, days: Days, wait: Wait) -> list[Fetched]:
    """What a console says of these days. What it does not say is a report's `fault`, and raised nowhere."""
    return _PROVIDERS[console.source].reports(console, days, wait)


def totals_of(source: Source, counts: Mapping[str, int]) -> dict[str, int]:
    """A source's counts as `input tokens`, `cached tokens` and `output tokens`, as far as it counts them."""
    return _PROVIDERS[source].totals(counts)
