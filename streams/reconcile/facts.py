"""What providers have said, in provider_usage.v1: written once, and again where they correct themselves."""

import logging
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from schemas.codec import encode
from schemas.edge.provider_usage import Figures, ProviderUsage
from streams.kafka.client import write_all
from streams.kafka.whole_topic import committed_records
from streams.process.logs import fields
from streams.reconcile.config import Console
from streams.reconcile.days import end_of
from streams.reconcile.sources.report import Cell, Fetched
from streams.settings import Settings

log = logging.getLogger("spendfuse.reconcile")

TOPIC: Final = "provider_usage.v1"


def key_of(fact: ProviderUsage) -> str:
    """The record's key; what the provider does not say is empty."""
    parts = (fact.source, fact.console, fact.day, fact.report, fact.key, fact.model, fact.item)
    return "/".join(quote(part or "", safe="") for part in parts)


def read_facts(settings: Settings) -> dict[str, ProviderUsage]:
    """Record key -> what was said last. Raises `BrokerError`."""
    decode = msgspec.json.Decoder(ProviderUsage).decode
    found: dict[str, ProviderUsage] = {}
    for message in committed_records(settings, TOPIC):
        try:
            fact = decode(message.value() or b"")
            found[key_of(fact)] = fact
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.error("a record of provider_usage.v1 cannot be read", extra=fields(offset=message.offset()))
    return found


def write_facts(settings: Settings, facts: Iterable[ProviderUsage]) -> None:
    """Return when the broker has them. Raises `BrokerError`."""
    write_all(settings, TOPIC, ((key_of(one).encode(), encode(one)) for one in facts), "what a provider has said")


def news(console: Console, report: Fetched, known: Mapping[str, ProviderUsage], fetched_ms: int) -> list[ProviderUsage]:
    """What a report says that was not known. A row that a day had and has no more is told as one without figures."""
    said: dict[str, ProviderUsage] = {}
    for cell, row in report.rows.items():
        figures = Figures(fetched_ms=fetched_ms, counts=row.counts, cost_nanousd=row.cost_nanousd)
        fact = _fact(console, report, cell, figures)
        said[key_of(fact)] = fact
    with_rows = {cell.day for cell in report.rows}
    for key, fact in known.items():
        if _is_of(fact, console, report) and fact.day in with_rows and key not in said:
            said[key] = msgspec.structs.replace(fact, figures=Figures(fetched_ms=fetched_ms), before=None)
    return [_corrected(console, fact, known.get(key)) for key, fact in said.items() if _differs(fact, known.get(key))]


def _fact(console: Console, report: Fetched, cell: Cell, figures: Figures) -> ProviderUsage:
    return ProviderUsage(
        source=console.source, console=console.name, report=report.report, day=cell.day, key=cell.key,
        model=cell.model, item=cell.item, figures=figures,
    )  # fmt: skip


def _is_of(fact: ProviderUsage, console: Console, report: Fetched) -> bool:
    return (fact.source, fact.console, fact.report) == (console.source, console.name, report.report)


def _differs(fact: ProviderUsage, known: ProviderUsage | None) -> bool:
    if known is None:
        return True
    old, new = known.figures, fact.figures
    return (old.counts, old.cost_nanousd) != (new.counts, new.cost_nanousd)


def _corrected(console: Console, fact: ProviderUsage, known: ProviderUsage | None) -> ProviderUsage:
    """With what was said before, if that was to be believed; while a day goes on its figures only grow."""
    if known is None:
        return fact
    was_settled = known.figures.fetched_ms >= end_of(fact.day) + console.lag_ms
    return msgspec.structs.replace(fact, before=known.figures if was_settled else known.before)
