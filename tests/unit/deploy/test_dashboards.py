"""Grafana's pages: every query is PromQL over what the processes offer, and every line has a name that exists."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from infra.grafana.__main__ import main
from infra.grafana.export import COLUMNS, DASHBOARDS, FOLDER, files
from infra.grafana.panels import FUSE, Panel
from tests.support.promql import exposed, faults, labels_of

PAGES = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]
WORDS = ("text", "row")
PICTURES = [(page["uid"], panel) for page in PAGES for panel in page["panels"] if panel["type"] not in WORDS]
QUERIES = [(target["expr"], target["legendFormat"]) for _, panel in PICTURES for target in panel["targets"]]


def test_the_files_are_as_the_panels_say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What Grafana reads is written from panels.py, and a file that was edited or is left over is named."""
    assert main(["check"]) == 0
    changed = dict.fromkeys(files(), "{}\n")
    monkeypatch.setattr("infra.grafana.__main__.files", lambda: changed)
    assert main(["check"]) == 1
    assert f"{FUSE.uid}.json" in capsys.readouterr().out


@pytest.mark.parametrize(("expr", "legend"), QUERIES, ids=[expr for expr, _ in QUERIES])
def test_a_query_looks_at_what_there_is(expr: str, legend: str) -> None:
    """Each metric and label in it is offered by a process, and the name of its line does not speak of what was summed
    away: a misspelt one would show an empty picture for ever.
    """
    assert faults(expr, exposed()) == []
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels_of(expr)


@pytest.mark.parametrize(
    ("expr", "fault"),
    [
        ("sum(spendfuse_partition)", "no process offers spendfuse_partition"),
        ('spendfuse_lag_seconds{tenant="a"}', "spendfuse_lag_seconds has no label tenant"),
        ("max by (tenant) (spendfuse_lag_seconds)", "nothing below has the label tenant"),
        ("1 - sum by (tenant) (rate(spendfuse_events_total[5m]))", "nothing below has the label tenant"),
    ],
)
def test_a_query_about_nothing_is_seen(expr: str, fault: str) -> None:
    """The check itself finds a misspelt metric, and labels that are not there."""
    assert faults(expr, exposed()) == [fault]


def test_what_is_no_promql_is_refused() -> None:
    """As Grafana would show it: an error in place of a picture."""
    with pytest.raises(ValueError, match="parenthes"):
        faults("sum(spendfuse_partitions", exposed())


def test_the_fuse_is_seen_at_one_glance() -> None:
    """Lag, commits, kills that nobody answers, how long a stop takes, dead letters and failed deliveries are there."""
    shown = " ".join(query.expr for panel in FUSE.panels if isinstance(panel, Panel) for query in panel.queries)
    for metric in (
        "lag_seconds", "uncommitted_seconds", "unanswered_kills_total", "cause_to_stop_seconds_bucket",
        "dead_letters_total", "alerting_failed_total",
    ):  # fmt: skip
        assert f"spendfuse_{metric}" in shown


@pytest.mark.parametrize("page", PAGES, ids=[page["uid"] for page in PAGES])
def test_a_page_is_laid_out(page: dict[str, Any]) -> None:
    """Panels have ids of their own, say what they mean, and neither overlap nor leave the page."""
    assert len({panel["id"] for panel in page["panels"]}) == len(page["panels"])
    places = [panel["gridPos"] for panel in page["panels"]]
    for one, following in pairwise(places):
        beside = following["y"] == one["y"] and following["x"] >= one["x"] + one["w"]
        assert beside or following["y"] >= one["y"] + one["h"]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    for panel in page["panels"]:
        if panel["type"] not in WORDS:
            assert panel["description"].endswith("."), panel["title"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_every_page_is_provisioned() -> None:
    """Grafana in compose finds the folder that the files are in, and a source of the kind that they choose from."""
    home = Path(FOLDER).parent / "provisioning"
    assert "/var/lib/grafana/dashboards" in (home / "dashboards" / "spendfuse.yml").read_text(encoding="utf-8")
    assert "type: prometheus" in (home / "datasources" / "prometheus.yml").read_text(encoding="utf-8")
    assert {one.uid for one in DASHBOARDS} == {page["uid"] for page in PAGES}
