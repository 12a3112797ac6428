"""Google's billing export, `gcp_billing_export_v1_<account>` of BigQuery, as rows exported to a file.

BigQuery's own client is not needed for one table a day. Read are `usage_start_time`, `cost`, `credits`, `currency`,
`project.id`, `service.description` and `sku.description`: from JSON as BigQuery writes it, an object a line or a list
of them; or from CSV, whose columns may be written `project_id` as well.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from streams.provider_api import ProviderError
from streams.reconcile.config import Console
from streams.reconcile.days import Days
from streams.reconcile.sources.paging import Wait
from streams.reconcile.sources.report import Cell, Fetched, Rows, fetched, nanousd, require_usd

SERVICES: Final = frozenset({"Vertex AI", "Gemini API", "Generative Language API"})
"""Whose costs are compared; rows without a service all are."""


def reports(console: Console, days: Days, wait: Wait) -> list[Fetched]:
    """What it costs, by day and project. A bill names articles (`sku`), not models: they are kept, and not guessed."""
    del wait
    path, asked = console.file, frozenset(days.names)
    if path is None:
        return []
    return [fetched("cost", lambda: _costs(path, asked), by_key=True, by_model=False)]


def totals(counts: Mapping[str, int]) -> dict[str, int]:
    """A bill counts no tokens."""
    del counts
    return {}


def _costs(path: Path, asked: frozenset[str]) -> Rows:
    rows = Rows()
    for number, row in enumerate(_rows(path), 1):
        try:
            day = _day(_part(row, "usage_start_time"))
            if day not in asked:
                continue
            rows.days.add(day)
            if _part(row, "service", "description") not in (None, *SERVICES):
                continue
            require_usd(_part(row, "currency"))
            cost = nanousd(_part(row, "cost")) + _credits(row.get("credits"))
        except ProviderError as error:
            raise ProviderError(f"{path}, row {number}: {error}") from None
        rows.add(Cell(day, _part(row, "project", "id"), None, _part(row, "sku", "description")), {}, cost)
    return rows


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from csv.DictReader(file)
            return
        text = path.read_text(encoding="utf-8")
        listed = text.lstrip().startswith("[")
        values = _parsed(text) if listed else [_parsed(line) for line in text.splitlines() if line.strip()]
    except OSError as error:
        raise ProviderError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error):
        raise ProviderError(f"{path} is neither CSV (named so) nor JSON") from None
    for value in values:
        if not isinstance(value, dict):
            raise ProviderError(f"{path} holds something else than rows")
        yield value


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def _part(row: Mapping[str, Any], *names: str) -> Any:
    """A column, within its parent, or flat as `parent.name` or `parent_name`; None where it is empty or not there."""
    for flat in (".".join(names), "_".join(names)):
        if row.get(flat) not in (None, ""):
            return row[flat]
    value: Any = row
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return None if value == "" else value


def _credits(given: Any) -> int:
    """What is taken off, as negative amounts: a list of credits, or their sum."""
    if isinstance(given, str) and given.startswith("["):
        try:
            given = _parsed(given)
        except ValueError:
            raise ProviderError("credits cannot be read") from None
    if given in (None, "", []):
        return 0
    if isinstance(given, list):
        return sum(nanousd(one.get("amount") if isinstance(one, dict) else one) for one in given)
    return nanousd(given)


def _day(value: Any) -> str:
    try:
        at = datetime.fromisoformat(str(value).replace(" UTC", "+00:00"))
    except ValueError:
        raise ProviderError("usage_start_time is no time") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%d")
