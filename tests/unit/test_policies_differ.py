"""Worker and alerting under different policies: said after a while, once a day, and never of one that is on its way."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from models.rules.policy import read_policy_toml
from models.rules.policy_findings import findings
from schemas.alert import WATCHDOG, Alert
from schemas.duration import DAY_MS, MINUTE_MS
from schemas.errors import BrokerError, PolicyError
from streams.clock import BrokerClock
from streams.kafka.topics import LOSES, PARTS, Drift
from streams.notifier.metrics import NotifierMetrics
from streams.notifier.own_alerts import FRESH_MS, PATIENCE_MS, PolicyWatch, TopicsWatch
from streams.service_alert import IN_NO_POLICY, known_rules, service_alert
from streams.settings import Settings
from tests.support.messages import MONDAY_MS


def beat(watch: PolicyWatch, version: str, at_ms: int, now_ms: int | None = None) -> None:
    """A partition's sign of life under that policy arrives where `ours` is in force."""
    sign = service_alert(
        WATCHDOG, 3, at_ms, version, severity="info", level=0.0, value=0, unit="",
        evidence={}, summary="", next_action="",
    )  # fmt: skip
    watch.beat(3, sign, "ours", at_ms if now_ms is None else now_ms)


def test_a_lasting_difference_is_said_once_a_day() -> None:
    """Not while a published policy is on its way; then once, naming both; again the next day; and no more once over."""
    watch = PolicyWatch()
    beat(watch, "theirs", MONDAY_MS)
    assert watch.differing("ours", MONDAY_MS + PATIENCE_MS - 1) == {}
    later_ms = MONDAY_MS + PATIENCE_MS
    beat(watch, "theirs", later_ms)
    assert watch.differing("ours", later_ms) == {3: "theirs"}
    first = watch.news(3, "theirs", "ours", later_ms)
    assert first is not None
    assert (first.rule, first.evidence) == ("policies-differ", {"worker": "theirs", "alerting": "ours"})
    assert watch.news(3, "theirs", "ours", later_ms + MINUTE_MS) is None
    again = PolicyWatch().news(3, "theirs", "ours", later_ms + MINUTE_MS)
    assert again is not None, "after a restart"
    assert again.alert_id == first.alert_id, "the log of deliveries knows that it was sent"
    assert watch.news(3, "theirs", "ours", later_ms + DAY_MS) is not None
    beat(watch, "ours", later_ms + DAY_MS)
    assert watch.differing("ours", later_ms + DAY_MS) == {}


def test_signs_of_life_of_before_say_nothing_of_now() -> None:
    """Alerting that reads on after a night does not compare its policy with last night's."""
    watch = PolicyWatch()
    beat(watch, "theirs", MONDAY_MS, MONDAY_MS + FRESH_MS + 1)
    assert watch.differing("ours", MONDAY_MS + DAY_MS) == {}


def test_topics_that_stay_as_they_were_not_declared_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what one look finds; what has an effect at once is told when it stands at two, and wakes somebody; the rest
    may be an upgrade under way, and is told when it stands for long; and a look that fails ends nothing.
    """
    a, b, mild = Drift("a", LOSES), Drift("b", PARTS), Drift("mild")
    looks: list[Any] = [[a, b], [b, mild], BrokerError("silent"), [b, mild], [mild], []]
    told: list[Alert] = []
    counted: list[float | None] = []
    metrics = NotifierMetrics()

    def look(*_: object, **__: object) -> Any:
        counted.append(metrics.registry.get_sample_value("spendfuse_alerting_topics_differ"))
        if not looks:
            raise Ended
        found = looks.pop(0)
        if isinstance(found, BrokerError):
            raise found
        return found

    async def submit(alert: Alert) -> None:
        told.append(alert)

    monkeypatch.setattr("streams.notifier.own_alerts.drifted", look)
    monkeypatch.setattr("streams.notifier.own_alerts.TOPICS_EVERY_S", 0.0)
    monkeypatch.setattr("streams.notifier.own_alerts.LOOKS", 3)
    notifier: Any = SimpleNamespace(submit=submit)
    policy = read_policy_toml(HEAD)
    with pytest.raises(Ended):
        asyncio.run(TopicsWatch(Settings(), lambda: policy, notifier, metrics, BrokerClock()).run())
    assert counted == [0, 0, 1, 1, 2, 1, 0]
    assert {(one.rule, one.tenant_id) for one in told} == {("topics-differ", "spendfuse")}
    assert [(one.severity, one.value) for one in told] == [("error", 1), ("error", 1), ("error", 2), ("warning", 1)]
    assert told[0].summary == f"Topics are not as declared: b. {PARTS}"
    assert {one.rule for one in told} <= IN_NO_POLICY


def test_a_broker_that_does_not_answer_holds_up_nobodys_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerting that is told to end while it asks for the topics' settings ends, and not when the broker gives up."""
    asked, let_go = threading.Event(), threading.Event()
    answered: list[bool] = []

    def look(*_: object, **__: object) -> Any:
        asked.set()
        answered.append(let_go.wait(30))
        return []

    async def begin_and_end() -> None:
        policy, notifier = read_policy_toml(HEAD), cast("Any", None)
        watch = TopicsWatch(Settings(), lambda: policy, notifier, NotifierMetrics(), BrokerClock())
        watching = asyncio.create_task(watch.run())
        await asyncio.to_thread(asked.wait, 30)
        watching.cancel()

    monkeypatch.setattr("streams.notifier.own_alerts.drifted", look)
    asyncio.run(begin_and_end())
    assert answered == []
    let_go.set()


class Ended(Exception):
    """No more looks."""


HEAD = 'version = "1"\n'
BUDGET = '[[budget]]\nname = "m"\nperiod = "month"\nlimit_usd = 10\n'
EXCEPTION = 'exceptions = [{scope = "acme", limit_usd = 30, until = 2020-01-01T00:00:00Z, why = "w", who = "ana"}]\n'
NEVER = '[[quiet.planned]]\nfrom = 2199-01-02T23:00:00Z\nuntil = 2199-01-02T01:00:00Z\nwhy = "night"\n'
PLANNED = '[[quiet.planned]]\nfrom = 2020-01-01T00:00:00Z\nuntil = 2020-01-02T00:00:00Z\nwhy = "move"\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HEAD + BUDGET, []),
        (BUDGET, ["version: there is none"]),
        ("", []),
        (HEAD + BUDGET + EXCEPTION, ["budget m: the exception of 'acme' ended 2020-01-01"]),
        (HEAD + PLANNED, ["quiet.planned[0]: it ended 2020-01-02"]),
        (HEAD + NEVER, ["quiet.planned[0]: it ends before it begins"]),
        (HEAD + BUDGET + '[[route]]\nmatch = {rule = "n"}\n', ["route[0].match.rule: no rule is called 'n'"]),
        (
            HEAD + BUDGET + '[[inhibit]]\nsource = {rule = ["m", "x"]}\n',
            ["inhibit[0].source.rule: no rule is called 'x'"],
        ),
        (HEAD + BUDGET + f"[[route]]\nmatch = {{rule = {['m', *sorted(IN_NO_POLICY)]}}}\n", []),
    ],
)
def test_a_policy_check_finds_what_is_hardly_meant(text: str, found: list[str]) -> None:
    """Valid, and all the same a mistake: each is named with its place."""
    policy = read_policy_toml(text)
    said = findings(policy, MONDAY_MS, known_rules(policy))
    assert [each[: len(start)] for each, start in zip(said, found, strict=True)] == found


@pytest.mark.parametrize("label", ['severity = "critcal"', 'state = ["open", "closed"]', 'mode = "kill"'])
def test_a_label_that_never_has_a_value_is_refused(label: str) -> None:
    """It would match nothing, and nobody would be told."""
    with pytest.raises(PolicyError, match=r"is never '.*'; it is one of"):
        read_policy_toml(f"[[route]]\nmatch = {{{label}}}\n")


def test_two_files_without_a_version_are_two_policies() -> None:
    """Alerts and signs of life name the policy by its version: what says something else is called something else."""
    names = {read_policy_toml(BUDGET.replace("10", str(limit))).version for limit in (10, 20, 10)}
    assert len(names) == 2
    assert read_policy_toml("").version == "defaults"
