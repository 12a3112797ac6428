"""It watches itself: rules over metrics that exist, each with a page that says what to do, and what fires when."""

import argparse
import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.rules.policy import default_policy
from streams.clock import pause
from streams.commands.registry import add_all
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.worker.partition import Partition
from streams.worker.reporter import Reporter
from tests.support.deploy import tool
from tests.support.promql import OF_SCRAPES, exposed, faults
from tests.support.rules_file import FILE, Rule, read_rules

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = sorted(page for page in RUNBOOKS.glob("*.md") if page.stem != "README")
SECTIONS = ("What it means", "What people notice", "How to check", "What to do", "When to escalate")

RULES = read_rules(FILE.read_text(encoding="utf-8"))
each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule.alert for rule in RULES])
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])


@each_rule
def test_a_rule_looks_at_what_there_is(rule: Rule) -> None:
    """Each metric and label in it is offered by a process: a misspelt one would never fire."""
    offered = exposed()
    assert rule.metrics
    assert rule.metrics <= offered.keys()
    assert faults(rule.expr, offered) == []
    labels = OF_SCRAPES.union(*(offered[name] for name in rule.metrics))
    assert rule.labels | rule.told <= labels
    grouped = re.match(r"(?:sum|max) by \(([^)]*)\)", rule.expr)
    if grouped:
        assert rule.told <= {name.strip() for name in grouped[1].split(",")}, "the summary names what is summed away"


@each_rule
def test_a_rule_says_what_is_the_matter(rule: Rule) -> None:
    """In a sentence, with one of the product's four words for how bad it is, and a page that exists."""
    assert rule.severity in ("critical", "error", "warning", "info")
    assert rule.summary.endswith(".")
    assert len(rule.summary) <= 200
    page = ROOT / rule.runbook
    assert page in PAGES
    assert f"`{rule.alert}`, {rule.severity}" in page.read_text(encoding="utf-8")
    assert f"| `{rule.alert}` | {rule.severity} | [{page.stem}]({page.name}) |" in read(RUNBOOKS / "README.md")


@each_page
def test_a_page_has_a_rule_and_says_what_to_do(page: Path) -> None:
    """No page without an alert; what it means, what people notice, how to check, what to do, when to get help."""
    assert any(ROOT / rule.runbook == page for rule in RULES)
    found = re.findall(r"^## (.+)$", read(page), re.MULTILINE)
    assert [title for title in found if title in SECTIONS] == list(SECTIONS)


@each_page
def test_a_page_tells_the_truth(page: Path) -> None:
    """Its commands are understood, its metrics, settings, log lines and links exist."""
    text = read(page)
    for command in re.findall(r"`\.venv/bin/python -m streams ([^`]+)`", text):
        parser().parse_args(shlex.split(command))
    offered = exposed().keys() | {name.removesuffix("_bucket") for name in exposed()}
    assert set(re.findall(r"\bspendfuse_\w+", text)) <= offered
    known = {f"SPENDFUSE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"SPENDFUSE_\w+", text)) <= known
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert all((page.parent / link).exists() for link in links), links
    said = re.findall(r"log[^.`]*?(?::|has a line|says?|has|names) `([^`]+)`", text)
    source = "\n".join(read(path) for path in (ROOT / "streams").rglob("*.py"))
    assert all(line in source for line in said if " " in line), said


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The operators' command line; a command it does not know ends the test."""
    found = argparse.ArgumentParser(exit_on_error=False)
    add_all(found.add_subparsers(required=True))
    return found


@pytest.mark.parametrize(
    "text",
    [
        "- alert: A\n  expr: up\n",
        "- alert: A\n  alert: B\n",
        "- alert: A\n  expression: up\n",
        "- alert: A\n  expr: a: b\n",
        "- alert: A\n  expr: a # b\n",
        '- alert: A\n  summary: "a \\" b"\n',
        "rules: [a]\nb\n",
    ],
)
def test_what_yaml_may_read_otherwise_is_refused(text: str) -> None:
    """The reader of these tests believes nothing that a real one could understand differently."""
    with pytest.raises(ValueError, match=r"line|has no"):
        read_rules(text)


def partition_lag(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"partition": "0"})


def test_what_is_read_is_lag_and_what_may_not_be_read_is_held() -> None:
    """A worker at work is behind. One that stands at the end of what is committed is held back by somebody. A partition
    that has gone elsewhere says nothing.
    """
    metrics = Metrics()
    reporter, partition = Reporter(Settings(), metrics), Partition(0, 1, default_policy(), {}, None)

    def look(read_to: int, end: int, *, at_end: bool) -> tuple[float | None, float | None]:
        partition.usage_offset = read_to - 1
        if at_end:
            partition.end_reached(read_to)
        pause(0.002)
        reporter.progress(partition, end)
        return partition_lag(metrics, "spendfuse_lag_records"), partition_lag(metrics, "spendfuse_held_records")

    assert look(10, 10, at_end=True) == (0, 0)
    assert look(20, 30, at_end=False) == (10, 0)
    assert look(30, 40, at_end=True) == (10, 0), "more was written since it came to the end"
    assert look(40, 50, at_end=True) == (10, 0), "and it went on"
    assert look(40, 50, at_end=True) == (10, 10), "now it does not"
    assert (partition_lag(metrics, "spendfuse_lag_seconds") or 0) > 0
    assert look(60, 60, at_end=True) == (0, 0)
    assert partition_lag(metrics, "spendfuse_lag_seconds") == 0
    reporter.revoked()
    assert partition_lag(metrics, "spendfuse_lag_records") is None


def test_what_is_read_and_not_committed_is_lag() -> None:
    """A worker whose every batch is aborted has read its input to the end, and is behind all the same: by what the last
    commit has not included. Nobody else holds it back.
    """
    metrics = Metrics()
    reporter, partition = Reporter(Settings(), metrics), Partition(0, 1, default_policy(), {}, None)
    partition.usage_offset = 9
    partition.end_reached(12)  # behind the last record are markers
    partition.usage(SimpleNamespace(
        topic=lambda: "usage.v1", partition=lambda: 0, offset=lambda: 12, key=lambda: b"acme", value=lambda: b"junk",
        timestamp=lambda: (1, 1_793_577_600_000),
    ))  # fmt: skip
    partition.end_reached(13)
    for _ in range(2):
        pause(0.002)
        reporter.progress(partition, 13)
        assert partition_lag(metrics, "spendfuse_lag_records") == 1
        assert partition_lag(metrics, "spendfuse_held_records") == 0
    partition.committed()
    reporter.progress(partition, 13)
    assert partition_lag(metrics, "spendfuse_lag_records") == 0


def test_what_is_counted_is_there_from_the_start() -> None:
    """The first dead letter ever is an increase, not the birth of a series."""
    metrics = Metrics()
    for reason in ("not_json", "bad_signature"):
        assert metrics.registry.get_sample_value("spendfuse_dead_letters_total", {"reason": reason}) == 0
    assert metrics.registry.get_sample_value("spendfuse_unanswered_kills_total") == 0


# What fires when, by Prometheus' own judgement: 20 minutes, a sample every 15 s; `_` is no sample.
FOREVER = 80
HEALTHY: dict[str, str] = {
    'spendfuse_partitions{job="worker",instance="w1"}': f"1x{FOREVER}",
    'spendfuse_partitions{job="worker",instance="w2"}': f"1x{FOREVER}",
    'spendfuse_topic_partitions{job="worker",instance="w1"}': f"2x{FOREVER}",
    # The other worker of two ends again and again: a session, a rebalance, a restore.
    'spendfuse_unattended_seconds{job="worker",instance="w1"}': "0 12 27 42 0 " * 16,
    'spendfuse_restoring{job="worker",instance="w1"}': f"0x{FOREVER}",
    'spendfuse_lag_records{job="worker",instance="w1",partition="0"}': "40 0 900 3 " * 20,
    'spendfuse_lag_records{job="worker",instance="w2",partition="1"}': f"0x{FOREVER}",
    'spendfuse_lag_seconds{job="worker",instance="w1",partition="0"}': "0 1 2 20 " * 20,
    'spendfuse_held_records{job="worker",instance="w1",partition="0"}': "7 0 12 " * 27,
    'spendfuse_batches_total{job="worker",instance="w1"}': f"0+300x{FOREVER}",
    'spendfuse_batches_total{job="worker",instance="w2"}': f"0+0.25x{FOREVER}",
    'spendfuse_uncommitted_seconds{job="worker",instance="w1"}': "0 2 0 9 " * 20,
    'spendfuse_broker_away_seconds{job="worker",instance="w1"}': "0 0 12 0 " * 20,
    'spendfuse_alerting_broker_away_seconds{job="alerting",instance="a"}': "0 0 12 0 " * 20,
    'spendfuse_host_clock_ahead_seconds{job="worker",instance="w1"}': "0 1 -2 40 " * 20,
    'spendfuse_alerting_host_clock_ahead_seconds{job="alerting",instance="a"}': f"0x{FOREVER}",
    'spendfuse_alerting_set_aside{job="alerting",instance="a",partition="0"}': f"0x{FOREVER}",
    'spendfuse_alerting_topics_differ{job="alerting",instance="a"}': f"0x{FOREVER}",
    'spendfuse_aborts_total{job="worker",instance="w1"}': "0 1 " + f"2x{FOREVER}",
    'spendfuse_watchdog_beats_total{job="worker",instance="w1",partition="0"}': f"0+0.25x{FOREVER}",
    'spendfuse_watchdog_beats_total{job="worker",instance="w2",partition="1"}': f"0+0.25x{FOREVER}",
    'spendfuse_unanswered_kills_total{job="worker",instance="w1"}': f"0x{FOREVER}",
    'spendfuse_cause_to_stop_seconds_bucket{job="worker",instance="w1",le="5"}': f"0+3x{FOREVER}",
    'spendfuse_cause_to_stop_seconds_bucket{job="worker",instance="w1",le="30"}': f"0+3x{FOREVER}",
    'spendfuse_cause_to_stop_seconds_bucket{job="worker",instance="w1",le="+Inf"}': f"0+3x{FOREVER}",
    'spendfuse_dead_letters_total{job="worker",instance="w1",reason="not_json"}': f"0x{FOREVER}",
    'spendfuse_dead_letters_total{job="worker",instance="w1",reason="bad_signature"}': f"0x{FOREVER}",
    'spendfuse_refused_orders_total{job="worker",instance="w1",reason="bad_signature"}': f"0x{FOREVER}",
    'spendfuse_refused_orders_total{job="worker",instance="w1",reason="bad_time"}': f"0x{FOREVER}",
    'spendfuse_forged_commands_total{job="worker",instance="w1"}': f"0x{FOREVER}",
    'spendfuse_policy_faults_total{job="worker",instance="w1"}': f"0x{FOREVER}",
    'spendfuse_alerting_policy_faults_total{job="alerting",instance="a"}': f"0x{FOREVER}",
    'spendfuse_alerting_refused_total{job="alerting",instance="a"}': f"0x{FOREVER}",
    'spendfuse_alerting_partitions{job="alerting",instance="a"}': f"2x{FOREVER}",
    'spendfuse_alerting_lag_records{job="alerting",instance="a",partition="0"}': "0 3 0 0 " * 20,
    'spendfuse_alerting_overdue_pages{job="alerting",instance="a",receiver="oncall"}': "0 1 0 0 " * 20,
    # A digest is due: for a moment its oldest warning is seven hours old.
    'spendfuse_alerting_oldest_pending_seconds{job="alerting",instance="a",receiver="oncall"}': "0 0 25000 0 " * 20,
    'spendfuse_alerting_circuit_open{job="alerting",instance="a",receiver="oncall"}': "0 0 1 " * 27,
    'spendfuse_alerting_sent_total{job="alerting",instance="a",receiver="oncall"}': f"0+5x{FOREVER}",
    'spendfuse_alerting_failed_total{job="alerting",instance="a",receiver="oncall",reason="timeout"}': f"0+1x{FOREVER}",
    'spendfuse_alerting_unreadable_total{job="alerting",instance="a",topic="alerts.v1"}': f"0x{FOREVER}",
    'spendfuse_alerting_dropped_total{job="alerting",instance="a",receiver="oncall"}': f"0x{FOREVER}",
    'spendfuse_enforcer_overdue_seconds{job="enforcer",instance="e",enforcer="support"}': "0 0 12 0 " * 20,
    'spendfuse_reconcile_difference_share{job="reconcile",instance="r",console="gpt",report="usage"}': f"0x{FOREVER}",
    'spendfuse_reconcile_days_not_known{job="reconcile",instance="r",console="gpt",report="usage"}': "0 1 1 0 " * 20,
    'spendfuse_sink_store_away_seconds{job="sink",instance="s"}': "0 40 0 200 0 " * 16,
    'spendfuse_sink_lost_offsets_total{job="sink",instance="s",topic="usage.v1"}': f"0x{FOREVER}",
    'spendfuse_sink_behind_offsets{job="sink",instance="s"}': "90 12000 0 7 " * 20,
    'spendfuse_sink_behind_seconds{job="sink",instance="s"}': "0 60 900 1 " * 20,
    'spendfuse_console_streams{job="console",instance="c"}': f"3x{FOREVER}",
    'spendfuse_unfollowed_topics{job="console",instance="c"}': "0 1 0 0 " * 20,
    'spendfuse_unfollowed_topics{job="gateway",instance="g"}': f"0x{FOREVER}",
    'spendfuse_gateway_keys{job="gateway",instance="g"}': f"4x{FOREVER}",
    'spendfuse_gateway_blind{job="gateway",instance="g"}': "1 0 0 0 " * 20,
    'spendfuse_gateway_requests_total{job="gateway",instance="g",source="events",status="200"}': f"0+90x{FOREVER}",
    'spendfuse_gateway_requests_total{job="gateway",instance="g",source="events",status="503"}': f"0x{FOREVER}",
    # A broker is replaced: for a while everything goes to the disk.
    'spendfuse_gateway_spool_bytes{job="gateway",instance="g"}': "0x10 0+1000000x30 0x40",
    'spendfuse_gateway_spool_limit_bytes{job="gateway",instance="g"}': f"1073741824x{FOREVER}",
    'spendfuse_enforcer_blind{job="enforcer",instance="e"}': "1 0 0 0 " * 20,
    'spendfuse_poll_since_answer_seconds{job="poller",instance="p",source="langfuse"}': "0 30 400 1 " * 20,
    'spendfuse_poll_unreadable_total{job="poller",instance="p",source="langfuse"}': f"0x{FOREVER}",
    'spendfuse_reconcile_since_pass_seconds{job="reconcile",instance="r"}': f"0+15x{FOREVER}",
}  # fmt: skip
ONCE = f"0x40 1x{FOREVER}"
NONE = ""

STORIES: list[tuple[str, dict[str, str], set[str]]] = [
    ("all is well", {}, set()),
    ("a night with nothing but beats", {"batches w1": "0+0.25x80"}, set()),
    ("no commits where there is nothing to commit", {"batches w2": "5x80"}, set()),
    (
        "a worker was restarted",
        {
            "batches w1": "0+300x40 0+300x40",
            "beats w1": "0+0.25x40 0+0.25x40",
            "aborts": "3x40 0x40",
            "restoring": "0x40 1 1 0x40",
        },
        set(),
    ),
    (
        "a partition has moved to the other worker",
        {
            "beats w1": "0+0.25x40 stale",
            'spendfuse_watchdog_beats_total{job="worker",instance="w2",partition="0"}': "_x40 0+0.25x40",
        },
        set(),
    ),
    ("no worker", {'job="worker"': NONE}, {"SpendfuseNoWorker"}),
    ("one of two workers is gone", {"w2": NONE}, {"SpendfusePartitionsUnowned"}),
    (
        "a worker that the group believes in is no more",
        {"unattended": "0x10 0+15x70"},
        {"SpendfusePartitionUnattended"},
    ),
    ("a restore that takes minutes", {"restoring": "0x10 1x70"}, {"SpendfuseRestoreSlow"}),
    ("a partition that is behind", {"lag_seconds": "0+15x80"}, {"SpendfuseWorkerLag"}),
    (
        "a foreign transaction hangs",
        {
            "held_records": "0x20 10+10x60",
            "lag_records w1": "0x20 10+10x60",
            "lag_seconds": "0x20 0+15x60",
            "beats w1": "0+0.25x20 5x60",
        },
        {"SpendfuseHangingTransaction", "SpendfuseWorkerLag", "SpendfuseNoBeat"},
    ),
    ("commits fail", {"batches w1": "0+300x40 12000x40", "lag_records w1": "5x80"}, {"SpendfuseWorkerNotCommitting"}),
    (
        "nothing is read because nothing can be committed",
        {"uncommitted": "0x10 0+15x70"},
        {"SpendfuseWorkerNotCommitting"},
    ),
    ("the broker is away from the worker", {"spendfuse_broker_away": "0x10 0+15x70"}, {"SpendfuseBrokerAway"}),
    ("the broker is away from alerting", {"alerting_broker_away": "0x10 0+15x70"}, {"SpendfuseBrokerAway"}),
    ("a delivery that nobody can read", {"set_aside": ONCE}, {"SpendfuseDeliveriesSetAside"}),
    ("a worker's host is behind", {"spendfuse_host_clock": "0x10 -3300x70"}, {"SpendfuseHostClock"}),
    ("alerting's host is ahead", {"alerting_host_clock": "0x10 3300x70"}, {"SpendfuseHostClock"}),
    ("batches are aborted all the time", {"aborts": "0+0.2x80"}, {"SpendfuseAborts"}),
    ("a partition stops beating", {"beats w2": "0+0.25x40 10x40"}, {"SpendfuseNoBeat"}),
    ("a kill is disobeyed", {"unanswered": ONCE}, {"SpendfuseKillUnanswered"}),
    ("runs stop late", {'le="5"': "0x80"}, {"SpendfuseStopsSlow"}),
    ("the first dead letter", {"not_json": ONCE}, {"SpendfuseDeadLetters"}),
    ("a forged order at the worker", {"bad_signature": ONCE}, {"SpendfuseForgedOrders"}),
    ("a copy of an old order", {"bad_time": ONCE}, {"SpendfuseForgedOrders"}),
    ("a forged command", {"forged_commands": ONCE}, {"SpendfuseForgedCommands"}),
    ("a forged order at alerting", {"alerting_refused": ONCE}, {"SpendfuseForgedOrders"}),
    ("a faulty policy at the worker", {"spendfuse_policy_faults": ONCE}, {"SpendfusePolicyRefused"}),
    ("a faulty policy at alerting", {"alerting_policy_faults": ONCE}, {"SpendfusePolicyRefused"}),
    ("no alerting", {'job="alerting"': NONE}, {"SpendfuseAlertingDown"}),
    ("half of alerting", {"alerting_partitions": "1x80"}, {"SpendfuseAlertingOwnsTooLittle"}),
    ("alerting reads too slowly", {"alerting_lag": "0x10 5x70"}, {"SpendfuseAlertingLag"}),
    ("a page that does not get through", {"overdue": "0x10 1x70"}, {"SpendfusePagesPending"}),
    ("warnings that do not get through", {"oldest": "0+30x80"}, {"SpendfusePendingTooOld"}),
    ("a receiver is down", {"circuit": "0x10 1x70"}, {"SpendfuseCircuitOpen"}),
    ("a receiver that never answered well", {"sent": "0x80"}, {"SpendfuseReceiverFailing"}),
    ("a receiver that nobody has counted", {"sent": NONE}, {"SpendfuseReceiverFailing"}),
    ("a provider switches no key", {"enforcer_overdue": "0+15x80"}, {"SpendfuseEnforcerOverdue"}),
    ("somebody spends past us", {"difference_share": "0x40 0.07x40"}, {"SpendfuseReconciliationDiffers"}),
    ("a provider tells nothing", {"days_not_known": "0x10 2x70"}, {"SpendfuseReconciliationUnknown"}),
    ("a store that takes nothing", {"sink_store_away": "0+15x80"}, {"SpendfuseSinkStoreAway"}),
    ("a sink that came too late", {"sink_lost": ONCE}, {"SpendfuseSinkLostRecords"}),
    ("a sink that does not come to the end", {"sink_behind_seconds": "1000+15x80"}, {"SpendfuseSinkBehind"}),
    ("the only gateway has ended", {"gateway_keys": "4x40 stale"}, {"SpendfuseGatewayGone"}),
    (
        "a gateway moves to another host",
        {
            'spendfuse_gateway_keys{job="gateway",instance="g"}': "4x40 stale",
            'spendfuse_gateway_keys{job="gateway",instance="h"}': "_x42 4x40",
        },
        set(),
    ),
    ("the enforcer has ended", {"enforcer_blind": "0x40 stale"}, {"SpendfuseEnforcerGone"}),
    ("nobody fills the store", {"sink_behind": "0x30 stale"}, {"SpendfuseProcessGone"}),
    ("the page is gone", {"console_streams": "0x30 stale"}, {"SpendfuseProcessGone"}),
    ("nobody polls", {"poll_since": "0x30 stale"}, {"SpendfuseProcessGone"}),
    ("nobody reconciles", {"reconcile_since": "0x30 stale"}, {"SpendfuseProcessGone"}),
    ("a gateway that cannot verify commands", {"gateway_blind": "0x40 1x40"}, {"SpendfuseBlind"}),
    ("an enforcer that cannot verify commands", {"enforcer_blind": "0x40 1x40"}, {"SpendfuseBlind"}),
    ("revoked keys are still taken", {"unfollowed gateway": "0x40 1x40"}, {"SpendfuseTopicUnfollowed"}),
    ("the page shows what was true once", {"unfollowed console": "0x40 2x40"}, {"SpendfuseTopicUnfollowed"}),
    ("usage stays on a disk", {"spool_bytes": "0x10 1000x70"}, {"SpendfuseSpoolKept"}),
    (
        "a disk that fills up",
        {"spool_bytes": "0+20000000x80", 'status="503"': "0x70 5x10"},
        {"SpendfuseSpoolKept", "SpendfuseSpoolFilling", "SpendfuseUsageRefused"},
    ),
    ("a polled system is silent", {"poll_since": "0+15x80"}, {"SpendfusePollSilent"}),
    ("a polled system has changed its words", {"poll_unreadable": ONCE}, {"SpendfusePollUnreadable"}),
    ("no pass for two days", {"reconcile_since": "172000+15x80"}, {"SpendfuseReconciliationStale"}),
    ("somebody has set a topic to delete", {"topics_differ": ONCE}, {"SpendfuseTopicsDiffer"}),
    ("an alert nobody can read", {"alerting_unreadable": ONCE}, {"SpendfuseAlertsUnreadable"}),
    ("a storm of warnings", {"dropped": ONCE}, {"SpendfuseWarningsDropped"}),
]


def series_of(changes: Mapping[str, str]) -> list[dict[str, str]]:
    """The healthy installation with other values where a series' name has all these words, or one series more."""
    series = dict(HEALTHY)
    for words, values in changes.items():
        found = [name for name in series if all(word in name for word in words.split())]
        assert found or "{" in words, f"no series is called {words}"
        series |= dict.fromkeys(found or [words], values)
    return [{"series": name, "values": values.strip()} for name, values in series.items() if values]


def test_every_rule_fires_in_a_story() -> None:
    """None is untried."""
    assert {alert for _, _, fired in STORIES for alert in fired} == {rule.alert for rule in RULES}


def test_what_fires_when(tmp_path: Path) -> None:
    """Prometheus itself says which alerts fire within 20 minutes of each story, and that no other does."""
    promtool = tool("prometheus", "promtool")
    tests = [
        {
            "name": name,
            "interval": "15s",
            "input_series": series_of(changes),
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[20m]))',
                    "eval_time": "20m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(fired)],
                }
            ],
        }
        for name, changes, fired in STORIES
    ]
    file = tmp_path / "rules.test.yml"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(FILE)], "evaluation_interval": "15s", "tests": tests}))
    for arguments in (["check", "rules", str(FILE)], ["test", "rules", str(file)]):
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
