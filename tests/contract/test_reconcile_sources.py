"""Reports of providers, fetched: from stand-ins made of their documentation, over HTTP, and from exported files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.errors import SettingsError
from streams.reconcile.config import Console, Source, read_consoles
from streams.reconcile.days import Days, end_of, last_days
from streams.reconcile.facts import key_of, news
from streams.reconcile.sources import paging, reports_of, totals_of
from streams.reconcile.sources.report import Cell, Fetched, Row
from tests.support.consoles import (
    COMPLETIONS,
    COST_REPORT,
    COSTS,
    EMBEDDINGS,
    MESSAGES,
    Consoles,
    cents,
    completions,
    cost,
    embeddings,
    messages,
)
from tests.support.messages import DAY_MS, HOUR_MS, MONDAY_MS
from tests.support.providers import SECRET

SAMPLE = Path(__file__).with_name("anthropic_usage_report_messages.json")
"""The example answer in Anthropic's public documentation of its usage report for messages."""
MON, TUE, WED = "2026-11-23", "2026-11-24", "2026-11-25"
DAYS = Days(MONDAY_MS, MONDAY_MS + 3 * DAY_MS)
SETTLED_MS = end_of(WED) + 6 * HOUR_MS


class Desk:
    """A console at the stand-in, and how long it was waited."""

    def __init__(self, consoles: Consoles) -> None:
        self.consoles = consoles
        self.waits: list[float] = []

    def console(self, source: Source, **fields: Any) -> Console:
        given = {"name": "main", "source": source, "secret_env": "ADMIN_KEY", "base_url": self.consoles.address}
        return Console.model_validate(given | fields)

    def fetch(self, source: Source) -> dict[str, Fetched]:
        """What it says of three days, by report."""
        found = reports_of(self.console(source), DAYS, self.waits.append)
        return {one.report: one for one in found}


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("ADMIN_KEY", SECRET)
    with Consoles() as consoles:
        yield Desk(consoles)


def fill(consoles: Consoles) -> None:
    """A day of each report."""
    consoles.rows[COMPLETIONS][MON] = [completions("key_1", "gpt-5", 1000, 100, 400)]
    consoles.rows[EMBEDDINGS][MON] = [embeddings("key_1", "text-embedding-3-small", 50)]
    consoles.rows[COSTS][MON] = [cost("key_1", "gpt-5, input", 0.06), cost(None, "file search storage", 1.5)]
    consoles.rows[MESSAGES][MON] = [messages("apikey_1", "claude-opus-5", 1500, 500, 200, 300)]
    consoles.rows[COST_REPORT][MON] = [
        cents("claude-opus-5", "Claude Opus 5 Usage - Output Tokens", "123.45"),
        cents(None, "Code Execution Usage", "7"),
    ]


BOTH = pytest.mark.parametrize("source", ["openai", "anthropic"])
PATHS: dict[tuple[str, str], str] = {
    ("openai", "usage"): COMPLETIONS, ("openai", "cost"): COSTS,
    ("anthropic", "usage"): MESSAGES, ("anthropic", "cost"): COST_REPORT,
}  # fmt: skip
EACH_REPORT = pytest.mark.parametrize(("source", "report"), PATHS)


def test_openai_counts_tokens_by_key_and_model_and_money_apart(desk: Desk) -> None:
    """Completions and embeddings are one report; a line of the bill that names no model has none."""
    fill(desk.consoles)
    found = desk.fetch("openai")
    usage = found["usage"].rows
    row = usage[Cell(MON, "key_1", "gpt-5")]
    assert totals_of("openai", row.counts) == {"input tokens": 1000, "cached tokens": 400, "output tokens": 100}
    assert row.cost_nanousd is None, "a price is never worked out from tokens"
    assert totals_of("openai", usage[Cell(MON, "key_1", "text-embedding-3-small")].counts)["input tokens"] == 50
    assert found["cost"].rows == {
        Cell(MON, "key_1", "gpt-5", "gpt-5, input"): Row({}, 60_000_000),
        Cell(MON, None, None, "file search storage"): Row({}, 1_500_000_000),
    }
    assert found["usage"].days == found["cost"].days == set(DAYS.names), "a bucket without rows is one all the same"


def test_a_day_that_one_of_openais_reports_does_not_speak_of_is_not_known(desk: Desk) -> None:
    """Completions without embeddings are not what was used that day."""
    fill(desk.consoles)
    desk.consoles.rows[COMPLETIONS][TUE] = [completions("key_1", "gpt-5", 1, 1)]
    desk.consoles.without_bucket.add((EMBEDDINGS, TUE))
    usage = desk.fetch("openai")["usage"]
    assert usage.days == {MON, WED}
    assert {cell.day for cell in usage.rows} == {MON}


def test_anthropics_amounts_are_cents_and_its_input_is_told_in_parts(desk: Desk) -> None:
    """`123.45` is a dollar and 23.45 cents; what went into a cache and came out of it is input as well."""
    fill(desk.consoles)
    found = desk.fetch("anthropic")
    row = found["usage"].rows[Cell(MON, "apikey_1", "claude-opus-5")]
    assert totals_of("anthropic", row.counts) == {"input tokens": 2000, "cached tokens": 200, "output tokens": 500}
    assert [row.cost_nanousd for row in found["cost"].rows.values()] == [1_234_500_000, 70_000_000]
    assert not found["cost"].by_key


def test_anthropics_own_sample_is_read(desk: Desk) -> None:
    """The answer of their documentation, to the token. Its page is not the last: while the next one does not come, but
    the same again, nothing of it is known.
    """
    sample = json.loads(SAMPLE.read_text(encoding="utf-8"))
    desk.consoles.whole_answers[MESSAGES] = sample
    fill(desk.consoles)
    assert "pages overlap" in (desk.fetch("anthropic")["usage"].fault or "")
    desk.consoles.whole_answers[MESSAGES] = sample | {"has_more": False, "next_page": None}
    rows = desk.fetch("anthropic")["usage"].rows
    ((cell, row),) = rows.items()
    assert cell == Cell("2025-08-01", "apikey_01Rj2N8SVvo6BePZj99NhmiT", "claude-opus-5")
    assert totals_of("anthropic", row.counts) == {"input tokens": 3200, "cached tokens": 200, "output tokens": 500}
    assert row.counts["server_tool_use.web_search_requests"] == 10


@BOTH
def test_all_pages_are_read(source: Source, desk: Desk) -> None:
    """A day a page: three pages of each report, and every day's rows."""
    fill(desk.consoles)
    whole = desk.fetch(source)
    desk.consoles.days_a_page = 1
    desk.consoles.asked.clear()
    assert desk.fetch(source) == whole
    assert {desk.consoles.asked.count(path) for path in set(desk.consoles.asked)} == {3}


@BOTH
def test_a_provider_that_asks_for_patience_gets_it(source: Source, desk: Desk) -> None:
    """`Retry-After` is waited for; without one it is tried again later and later."""
    fill(desk.consoles)
    desk.consoles.refusals.extend([(429, {"Retry-After": "7"}), (503, {}), (500, {})])
    assert all(report.fault is None for report in desk.fetch(source).values())
    assert desk.waits == [7, 4, 8]


@BOTH
@pytest.mark.parametrize(
    ("refusals", "words"),
    [
        ([(429, {"Retry-After": "3600"})], "answered with 429"),
        ([(429, {})] * 5, "answered with 429"),
        ([(401, {})], "the credential may not do this"),
        ([(400, {})], "answered with 400"),
        ([(404, {})], "base_url"),
    ],
)
def test_a_report_that_is_not_had_is_not_known(
    source: Source, refusals: list[tuple[int, dict[str, str]]], words: str, desk: Desk
) -> None:
    """It has a reason and nothing else; the other report of the console is there all the same, and no credential is
    said.
    """
    fill(desk.consoles)
    desk.consoles.refusals.extend(refusals)
    found = desk.fetch(source)
    assert words in (found["usage"].fault or "")
    assert SECRET not in (found["usage"].fault or "")
    assert not found["usage"].rows
    assert not found["usage"].days
    assert found["cost"].rows


def test_one_that_does_not_answer_is_not_known(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for a while, some times, and no longer."""
    monkeypatch.setattr(paging, "TIMEOUT_S", 0.05)
    desk.consoles.may_answer.clear()
    found = desk.fetch("anthropic")
    desk.consoles.may_answer.set()
    assert all("does not answer: ReadTimeout" in (one.fault or "") for one in found.values())
    assert desk.waits == [2, 4, 8, 16] * 2


BROKEN: dict[str, Any] = {
    "no JSON": b"<html>",
    "no data": {"error": "none"},
    "data that are no buckets": {"data": ["x"], "has_more": False},
    "nothing at all": {"data": [], "has_more": False, "next_page": None},
    "more, and not where": {"data": [], "has_more": True, "next_page": None},
}


@EACH_REPORT
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_or_empty_answer_is_never_a_zero(source: Source, report: str, broken: str, desk: Desk) -> None:
    """It has a fault, and nothing of it is written."""
    fill(desk.consoles)
    desk.consoles.whole_answers[PATHS[source, report]] = BROKEN[broken]
    found = desk.fetch(source)[report]
    assert found.fault
    assert news(desk.console(source), found, {}, SETTLED_MS) == []


@EACH_REPORT
def test_a_report_without_a_single_row_is_not_known(source: Source, report: str, desk: Desk) -> None:
    """Empty buckets for every day are what a credential of another organization gets."""
    assert "right organization" in (desk.fetch(source)[report].fault or "")


@EACH_REPORT
def test_rows_that_cannot_be_understood_leave_the_report_unknown(source: Source, report: str, desk: Desk) -> None:
    """A count or an amount that is missing, another currency: rather nothing than something wrong."""
    path = PATHS[source, report]
    fill(desk.consoles)
    good = desk.consoles.rows[path][MON][0]
    fields = {"openai": {"usage": "input_tokens", "cost": "amount"},
              "anthropic": {"usage": "output_tokens", "cost": "amount"}}[source]  # fmt: skip
    desk.consoles.rows[path][MON] = [{k: v for k, v in good.items() if k != fields[report]}]
    assert desk.fetch(source)[report].fault
    desk.consoles.rows[path][MON] = [good | {fields[report]: "many"}]
    assert desk.fetch(source)[report].fault
    if report == "cost":
        desk.consoles.rows[path][MON] = [
            cost(None, "x", 1.0, "eur") if source == "openai" else cents(None, "x", "1", "EUR")
        ]
        assert "only USD" in (desk.fetch(source)[report].fault or "")


def test_floats_and_credits_are_taken_as_written(desk: Desk) -> None:
    """0.1 dollars are 100,000,000 nano-dollars, whatever a float makes of it; what is given back is negative."""
    desk.consoles.rows[COSTS][MON] = [
        cost("a", "m, input", 0.1), cost("a", "m, input", 0.2), cost("a", "credit", -3.000000001),
        cost("b", "m, input", "1e-9"),
    ]  # fmt: skip
    rows = desk.fetch("openai")["cost"].rows
    assert [row.cost_nanousd for row in rows.values()] == [300_000_000, -3_000_000_001, 1]


def test_a_correction_keeps_what_was_said_before(desk: Desk) -> None:
    """What was to be believed and has changed since stands beside the new figure, also after further changes back to
    what it was; what did not change is not written again.
    """
    console, path = desk.console("openai"), COMPLETIONS
    fill(desk.consoles)
    first = news(console, desk.fetch("openai")["usage"], {}, SETTLED_MS)
    known = {key_of(fact): fact for fact in first}
    assert len(known) == 2
    assert news(console, desk.fetch("openai")["usage"], known, SETTLED_MS + 1) == []
    desk.consoles.rows[path][MON] = [completions("key_1", "gpt-5", 1100, 100, 400)]
    (corrected,) = news(console, desk.fetch("openai")["usage"], known, SETTLED_MS + 2)
    assert corrected.figures.counts["input_tokens"] == 1100
    assert corrected.before is not None
    assert (corrected.before.counts["input_tokens"], corrected.before.fetched_ms) == (1000, SETTLED_MS)


def test_a_day_that_goes_on_grows_and_is_not_corrected(desk: Desk) -> None:
    """Figures fetched before a day and its lag are over were not to be believed."""
    console = desk.console("openai")
    fill(desk.consoles)
    for fetched_ms, is_correction in ((end_of(MON) - 1, False), (end_of(MON) + 6 * HOUR_MS, True)):
        known = {key_of(fact): fact for fact in news(console, desk.fetch("openai")["usage"], {}, fetched_ms)}
        desk.consoles.rows[COMPLETIONS][MON][0]["output_tokens"] += 1
        (grown,) = news(console, desk.fetch("openai")["usage"], known, SETTLED_MS)
        assert (grown.before is not None) is is_correction


def test_a_row_that_is_withdrawn_has_no_figures_and_shows_what_it_had(desk: Desk) -> None:
    """A day's rows under another key now: the old one is no zero, it is empty. A day without any rows withdraws none,
    nor does a report that is not had.
    """
    console = desk.console("openai")
    desk.consoles.rows[COMPLETIONS] = {
        MON: [completions("key_1", "gpt-5", 10, 1)], TUE: [completions("key_1", "gpt-5", 20, 2)],
    }  # fmt: skip
    known = {key_of(fact): fact for fact in news(console, desk.fetch("openai")["usage"], {}, SETTLED_MS)}
    desk.consoles.rows[COMPLETIONS] = {MON: [completions("key_2", "gpt-5", 10, 1)]}
    said = {fact.key: fact for fact in news(console, desk.fetch("openai")["usage"], known, SETTLED_MS)}
    assert set(said) == {"key_1", "key_2"}
    assert (said["key_1"].day, said["key_1"].figures.counts) == (MON, {})
    assert said["key_1"].before is not None
    desk.consoles.rows[COMPLETIONS] = {}
    assert news(console, desk.fetch("openai")["usage"], known, SETTLED_MS) == []


def test_facts_hold_no_credential(desk: Desk) -> None:
    """The provider's ids of keys are written, and nothing that could be used."""
    fill(desk.consoles)
    facts = [fact for one in desk.fetch("openai").values() for fact in news(desk.console("openai"), one, {}, 1)]
    assert len(facts) == 4
    assert SECRET.encode() not in msgspec.json.encode(facts)
    assert len({key_of(fact) for fact in facts}) == 4


BILL: list[dict[str, Any]] = [
    {
        "service": {"description": "Vertex AI"}, "sku": {"description": "Gemini Text Input"}, "project": {"id": "p1"},
        "usage_start_time": "2026-11-23T08:00:00Z", "cost": 1.25, "currency": "USD",
        "credits": [{"name": "promotion", "amount": -0.25}],
    },
    {
        "service": {"description": "Vertex AI"}, "sku": {"description": "Gemini Text Input"}, "project": {"id": "p1"},
        "usage_start_time": "2026-11-23 23:30:00 UTC", "cost": 2, "currency": "USD", "credits": [],
    },
    {
        "service": {"description": "Cloud Storage"}, "sku": {"description": "Bytes"}, "project": {"id": "p1"},
        "usage_start_time": "2026-11-24T08:00:00Z", "cost": 9, "currency": "USD", "credits": [],
    },
]  # fmt: skip
FLAT = """usage_start_time,cost,currency,credits,service_description,sku_description,project_id
2026-11-23 08:00:00 UTC,1.25,USD,-0.25,Vertex AI,Gemini Text Input,p1
2026-11-24 00:30:00+01:00,2,USD,,Vertex AI,Gemini Text Input,p1
2026-11-24 08:00:00 UTC,9,USD,,Cloud Storage,Bytes,p1
"""
EXPORTS = {
    "a.json": json.dumps(BILL), "a.jsonl": "\n".join(map(json.dumps, BILL)), "a.csv": FLAT,
}  # fmt: skip


def google(path: Path) -> Fetched:
    console = Console(name="g", source="google", file=path)
    (report,) = reports_of(console, DAYS, lambda _: None)
    return report


@pytest.mark.parametrize("name", EXPORTS)
def test_googles_billing_export_is_read_from_a_file(name: str, tmp_path: Path) -> None:
    """Rows of a day, a project and an article are added up, credits taken off, other services left out; a day of other
    services is a day that was exported.
    """
    (tmp_path / name).write_text(EXPORTS[name])
    report = google(tmp_path / name)
    assert report.fault is None
    assert report.rows == {Cell(MON, "p1", None, "Gemini Text Input"): Row({}, 3_000_000_000)}
    assert report.days == {MON, TUE}
    assert not report.by_model


@pytest.mark.parametrize("text", [None, "", "nonsense", "[1]", json.dumps([BILL[0] | {"currency": "EUR"}]),
                                  json.dumps([BILL[0] | {"usage_start_time": "once"}]),
                                  json.dumps([BILL[0] | {"cost": None}])])  # fmt: skip
def test_a_file_that_cannot_be_read_is_not_known(text: str | None, tmp_path: Path) -> None:
    """It is said why."""
    path = tmp_path / "export.json"
    if text is not None:
        path.write_text(text)
    assert google(path).fault


def test_today_and_the_days_before_it_are_asked_for() -> None:
    """Two days that are over are read again at each pass, and today as far as it goes."""
    assert last_days(2, MONDAY_MS + 2 * DAY_MS + 5).names == [MON, TUE, WED]


GOOD: dict[str, Any] = {"name": "a", "source": "openai", "secret_env": "X"}
FAULTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "nothing": ([], r"no \[\[console\]\]"),
    "a word nobody knows": ([GOOD | {"keys": "k"}], "console a: keys"),
    "no such source": ([GOOD | {"source": "azure"}], "console a: source"),
    "no credential": ([{"name": "a", "source": "openai"}], "openai needs `secret_env`"),
    "two of one name": ([GOOD, GOOD], "two consoles have the name a"),
    "a share of everything": ([GOOD | {"tell_above": 1.5}], "console a: tell_above"),
    "google without a file": ([{"name": "a", "source": "google"}], "read from `file`"),
    "google with a credential": ([{"name": "a", "source": "google", "file": "f", "secret_env": "X"}], "from a file"),
    "a variable that is not set": ([GOOD], "X is not set"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_with_faults_is_refused_by_their_place(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fault names its console and field."""
    monkeypatch.delenv("X", raising=False)
    tables, words = FAULTS[fault]
    path = tmp_path / "reconcile.toml"
    path.write_text("".join(_toml(table) for table in tables))
    with pytest.raises(SettingsError, match=words):
        read_consoles(path)


def test_a_file_is_found_beside_the_settings(tmp_path: Path) -> None:
    """A relative path begins where the file of consoles lies; defaults are those of the source."""
    path = tmp_path / "reconcile.toml"
    path.write_text(_toml({"name": "g", "source": "google", "file": "bill.csv"}))
    (console,) = read_consoles(path)
    assert console.file == tmp_path / "bill.csv"
    assert console.lag_ms == 48 * HOUR_MS
    assert console.tell_above == 0.02


def _toml(table: dict[str, Any]) -> str:
    lines = [f"{name} = {value!r}" for name, value in table.items()]
    return "\n".join(["[[console]]", *lines, ""])
