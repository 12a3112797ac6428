"""What the weekly review asks of the table, of the week that was counted by hand (`question_week`)."""

import json
from pathlib import Path

import pytest

from alerting.review.facts import (
    AgentCosts,
    Line,
    Margin,
    ModelShare,
    PerAccepted,
    Reconciled,
    RunCosts,
)
from infra.kafka.embedded import EmbeddedBroker
from streams.__main__ import main
from streams.sinks.review import Span, read_detail, span_of
from streams.sinks.stores import open_store
from streams.sinks.stores.base import Store
from streams.tools import weekly
from tests.support.messages import DAY_MS, HOUR_MS, USD
from tests.support.question_week import fill
from tests.support.reviews import BEFORE_MS, WEEK, hour, reviewed

SPAN = Span(WEEK.start_ms, WEEK.end_ms, BEFORE_MS, WEEK.start_ms, comparable=True)


def test_the_detail_of_a_week_is_as_counted(store: Store) -> None:
    """Who spent what by every dimension, what an accepted output cost, runs, agents, mix, contracts and bills."""
    fill(store)
    detail = read_detail(store, SPAN)
    assert detail.cost_nanousd == 12.5 * USD
    assert detail.rankings["owner"].lines == (
        Line("ben", 11 * USD // 2, 0), Line("ana", 5 * USD, USD), Line("cleo", 2 * USD, 0),
    )  # fmt: skip
    assert [line.name for line in detail.rankings["model"].lines] == ["opus", "gpt", "haiku", "(tools)"]
    assert detail.accepted["owner"] == (
        PerAccepted("ben", 1, 11 * USD // 2, 11 * USD // 2, None), PerAccepted("ana", 1, 5 * USD, 5 * USD, USD),
    )  # fmt: skip
    assert detail.runs[0] == RunCosts("coding", 1, 11 * USD // 2, None, None)
    assert (detail.runs[1].workflow, detail.runs[1].p99_nanousd, detail.runs[1].runs) == ("support", 4 * USD, 3)
    assert detail.runs[1].variation == pytest.approx(0.534522, abs=1e-6)
    assert detail.agents == (AgentCosts("coder", 1, 11 * USD // 2, 0.0), AgentCosts("bot", 3, 7 * USD // 3, 0.2))
    assert detail.mix[0] == ModelShare("support", "opus", 4 / 7, 1.0)
    assert detail.low_prompts == ()
    assert detail.margins == (
        Margin("acme", "week", "2026-11-23", 10 * USD, 21 * USD // 2),
        Margin("globex", "month", "2026-11-01", 30 * USD, 2 * USD),
    )  # fmt: skip
    assert detail.reconciled[0] == Reconciled("anthropic", "opus", 9 * USD, 10 * USD)


def test_the_detail_of_one_tenant_has_nothing_of_another(store: Store) -> None:
    """The same figures as far as they are of that tenant, and no bills, which are of all together. Whatever a tenant is
    called, it sees no more.
    """
    fill(store)
    acme, globex = (read_detail(store, SPAN, tenant_id) for tenant_id in ("acme", "globex"))
    assert acme.cost_nanousd + globex.cost_nanousd == 12.5 * USD
    assert globex.cost_nanousd == 2 * USD
    assert globex.rankings["owner"].lines == (Line("cleo", 2 * USD, 0),)
    assert "cleo" not in str(acme)
    assert acme.margins == (Margin("acme", "week", "2026-11-23", 10 * USD, 21 * USD // 2),)
    assert acme.reconciled == ()
    for evil in ("' or 1=1 --", "\\' or 1=1 --", "\\", "a\nb"):
        assert read_detail(store, SPAN, evil).cost_nanousd == 0, evil
        assert store.query(f"select {store.literal(evil)}") == [(evil,)]


def test_a_week_that_is_not_over_is_compared_with_the_same_stretch(store: Store) -> None:
    """Until Wednesday morning nothing of the week before counts that came after its Wednesday; where that week is not
    on record, nothing is a change.
    """
    fill(store)
    until_ms = WEEK.start_ms + 2 * DAY_MS - HOUR_MS
    rows = [hour(day, 1) for day in (-7, 0)]
    detail = read_detail(store, span_of(reviewed(*rows, now_ms=until_ms)))
    assert detail.rankings["owner"].lines == (Line("ana", 5 * USD, 0),)
    alone = read_detail(store, SPAN._replace(comparable=False))
    assert alone.rankings["owner"].lines[1] == Line("ana", 5 * USD, None)
    assert alone.mix == ()


@pytest.fixture
def broker(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> EmbeddedBroker:
    """A broker with all topics, a day after the week."""
    embedded.create_topics("", 1)
    monkeypatch.setattr(weekly, "wall_ms", lambda: WEEK.end_ms + DAY_MS)
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", embedded.bootstrap)
    return embedded


def test_the_command_says_it_in_message_page_and_data(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--from`, or with the setting; a table of the setting that is away costs its lines, one that was named ends
    the command; without either nothing is different from before.
    """
    address = f"duckdb:///{tmp_path}/events.duckdb"
    store = open_store(address)
    store.prepare("cluster/")
    fill(store)
    store.close()
    html, data = tmp_path / "review.html", tmp_path / "review.json"
    words = ["report", "weekly", "--week", WEEK.label, "--html", str(html), "--json", str(data)]
    assert main([*words, "--from", address]) == 0
    assert "  Owners: ben $5.50, ana $5.00, cleo $2.00" in capsys.readouterr().out
    assert json.loads(data.read_text())["detail"]["cost_nanousd"] == 12.5 * USD
    monkeypatch.setenv("SPENDFUSE_SINK", address)
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "  Owners: ben $5.50, ana $5.00, cleo $2.00" in said
    assert "acme costs $10.50 in the week from 2026-11-23, and pays $10.00" in said
    monkeypatch.setenv("SPENDFUSE_SINK", f"duckdb:///{tmp_path}/nothing.duckdb")
    assert main(words) == 0
    assert "Owners" not in capsys.readouterr().out
    assert main([*words, "--from", f"duckdb:///{tmp_path}/nothing.duckdb"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "nothing.duckdb").exists()
    monkeypatch.delenv("SPENDFUSE_SINK")
    assert main(words) == 0
    assert "Owners" not in capsys.readouterr().out
    assert "detail" not in json.loads(data.read_text())
