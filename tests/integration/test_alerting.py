"""`python -m alerting` on a real Kafka, with receivers that answer on loopback and the real clients in between.

Numbers of rows are those of the fault matrix.
"""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from alerting.receivers.slack.blocks import SNOOZE
from schemas.alert import WATCHDOG
from schemas.codec import encode
from schemas.operator import Silence
from streams.clock import wall_ms
from streams.kafka.client import Admin
from streams.kafka.positions import group_offsets
from streams.kafka.whole_topic import committed_records
from streams.notifier.committed import GROUP
from streams.settings import Settings
from tests.support.alerting_process import (
    TO_THE_HOOK,
    AlertingProcess,
    AlertLog,
    Listening,
    repeated_without_a_word,
)
from tests.support.kafka import TopicSpace, wait_until
from tests.support.presses import SIGNING_SECRET, buttons, form, press, signed
from tests.support.receivers import make_authority, pagerduty, slack, unused_port, webhook
from tests.support.service_process import ENGINE_KEY, OPERATOR_KEY, ROOT
from tests.support.telling import HOUR_MS, alert

TO_ALL = """
version = "all"
[receivers.chat]
type = "slack"
channel = "#spend"
[receivers.pager]
type = "pagerduty"
key_env = "PAGERDUTY_KEY"
[[route]]
receivers = ["chat", "pager"]
group_by = ["incident_id"]
group_wait_seconds = 0
"""


def policy_file(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def incidents(hook: Listening) -> list[str]:
    """The incident of each alert that the webhook was told, in order."""
    return [each["incident_id"] for body in hook.bodies for each in body["data"]["alerts"]]


def rules(hook: Listening) -> list[str]:
    """The rule of each alert that the webhook was told, in order."""
    return [each["rule"] for body in hook.bodies for each in body["data"]["alerts"]]


def wait_told(process: AlertingProcess, hook: Listening, incident: str) -> None:
    process.wait_for(lambda: incident in incidents(hook), 30, f"{incident} told")


def test_what_was_aborted_reaches_nobody(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Row 53: alerts of an aborted transaction are never told, whether before, between or after committed ones. What
    was told is committed, and not read again by the next process, also where an aborted one follows the first of all.
    """
    log, now_ms = AlertLog(kafka_topics), wall_ms()
    with (
        Listening(webhook()) as hook,
        AlertingProcess(
            kafka_topics.bootstrap, kafka_topics.prefix, policy_file(tmp_path, TO_THE_HOOK.format(url=hook.url)), {}
        ) as process,
    ):
        log.write(alert("first", at_ms=now_ms))
        for number in range(6):
            log.write(alert(f"gone-{number}", at_ms=now_ms), abort=True)
            log.write(alert(f"real-{number}", at_ms=now_ms))
        log.write(alert("gone-last", at_ms=now_ms), abort=True)
        log.write(alert("last", at_ms=now_ms))
        wait_told(process, hook, "last")
        assert process.stop() == 0, process.tail()
        assert sorted(incidents(hook)) == ["first", "last", *(f"real-{number}" for number in range(6))]
    settings = Settings(kafka_bootstrap=kafka_topics.bootstrap, prefix=kafka_topics.prefix)
    read_to = group_offsets(Admin(settings), settings.group(GROUP))
    starts = {number: read_to.get((kafka_topics.name("alerts.v1"), number), 0) for number in range(4)}
    assert [record.offset() for record in committed_records(settings, "alerts.v1", starts=starts)] == []


def is_told(chat: Listening, pager: Listening, steps: int) -> bool:
    """Whether Slack and PagerDuty have heard of so many steps of one incident."""
    return len(chat.bodies) == 2 * steps - 1 and len(pager.bodies) >= steps


def test_an_incident_is_one_message_with_a_thread_and_a_page_per_level(
    kafka_topics: TopicSpace, tmp_path: Path
) -> None:
    """From 50 over 80 to 100 and resolved: Slack has one message, edited three times, with three replies in its
    thread; PagerDuty has a page per level, each closed when the next opens, the last at the end.
    """
    log, now_ms = AlertLog(kafka_topics), wall_ms()
    steps = [
        alert("day", 0.5, at_ms=now_ms),
        alert("day", 0.8, state="escalated", at_ms=now_ms + 1),
        alert("day", 1.0, state="escalated", at_ms=now_ms + 2),
        alert("day", 1.0, state="resolved", at_ms=now_ms + 3),
    ]
    authority = make_authority(tmp_path)
    with (
        Listening(slack()) as chat,
        Listening(pagerduty(tls=authority.server)) as pager,
        AlertingProcess(
            kafka_topics.bootstrap,
            kafka_topics.prefix,
            policy_file(tmp_path, TO_ALL),
            {"SLACK_BOT_TOKEN": "xoxb-1", "PAGERDUTY_KEY": "R0"},
            SLACK_URL=f"{chat.url}/api/",
            PAGERDUTY_URL=pager.url,
            RECEIVERS_CA=tmp_path / "ca.pem",
        ) as process,
    ):
        for number, step in enumerate(steps, 1):
            log.write(step)
            process.wait_for(partial(is_told, chat, pager, number), 30, f"step {number} told")
        process.wait_for(lambda: len(pager.bodies) == 6, 30, "six events at PagerDuty")
        assert process.stop() == 0, process.tail()
        assert chat.receiver.paths == ["/api/chat.postMessage", *(["/api/chat.update", "/api/chat.postMessage"] * 3)]
        first, *rest = chat.bodies
        ts = "1767280000.000001"
        assert "thread_ts" not in first
        assert [body.get("ts") or body["thread_ts"] for body in rest] == [ts] * 6
        assert {body["channel"] for body in rest} == {"C0CHANNEL"}
        assert _pages(pager.bodies) == [
            ("trigger", 0.5), ("resolve", 0.5), ("trigger", 0.8), ("resolve", 0.8), ("trigger", 1.0), ("resolve", 1.0)
        ] or _pages(pager.bodies) == [
            ("trigger", 0.5), ("trigger", 0.8), ("resolve", 0.5), ("trigger", 1.0), ("resolve", 0.8), ("resolve", 1.0)
        ]  # fmt: skip


def _pages(bodies: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """Action and level of each event; the level is that of the key's first trigger, in order of appearance."""
    keys: list[str] = []
    for body in bodies:
        if body["event_action"] == "trigger" and body["dedup_key"] not in keys:
            keys.append(body["dedup_key"])
    return [(body["event_action"], (0.5, 0.8, 1.0)[keys.index(body["dedup_key"])]) for body in bodies]


def test_a_silence_holds_over_a_restart_and_a_forged_one_never(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Row 55: what a signed silence covers is not told, before or after a restart; one signed with another key is
    refused, and what it would cover is told.
    """
    log, now_ms = AlertLog(kafka_topics), wall_ms()
    with Listening(webhook()) as hook:
        policy = policy_file(tmp_path, TO_THE_HOOK.format(url=hook.url))
        with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
            process.wait_owning(kafka_topics.partitions)
            log.order(_silence("quiet", now_ms), OPERATOR_KEY)
            log.order(_silence("loud", now_ms), ENGINE_KEY)
            process.wait_for(
                lambda: (
                    process.metric("spendfuse_alerting_orders_total").get("") == 1
                    and process.metric("spendfuse_alerting_refused_total").get("") == 1
                ),
                30,
                "one order read and one refused",
            )
            log.write(alert("one", rule="quiet", at_ms=now_ms), alert("two", rule="loud", at_ms=now_ms))
            wait_told(process, hook, "two")
            process.kill()
        with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
            log.write(alert("three", rule="quiet", at_ms=now_ms), alert("four", rule="loud", at_ms=now_ms))
            wait_told(process, hook, "four")
            assert process.stop() == 0, process.tail()
        assert set(incidents(hook)) == {"two", "four"}


def _silence(rule: str, now_ms: int) -> Silence:
    return Silence(
        message_id=f"silence-{rule}", ts_ms=now_ms, tenant_id="acme", who="ana", why="a test",
        match={"rule": rule}, until_ms=now_ms + HOUR_MS,
    )  # fmt: skip


def test_a_button_under_a_message_silences_its_incident(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """The press of "Snooze 1 h", as Slack posts it, becomes a signed order that this very process reads and obeys:
    whoever was told of the incident hears that somebody has it, and no more.
    """
    log, now_ms, port = AlertLog(kafka_topics), wall_ms(), unused_port()
    noisy = alert("noisy", 0.8, at_ms=now_ms)
    with Listening(webhook()) as hook:
        policy = policy_file(tmp_path, TO_THE_HOOK.format(url=hook.url))
        with AlertingProcess(
            kafka_topics.bootstrap, kafka_topics.prefix, policy, {},
            ACTIONS_PORT=port, SLACK_SIGNING_SECRET=SIGNING_SECRET,
        ) as process:  # fmt: skip
            log.write(noisy)
            wait_told(process, hook, "noisy")
            pressed = press(SNOOZE, buttons(noisy)[SNOOZE])
            pressed["actions"][0]["action_ts"] = f"{now_ms / 1000:.6f}"
            body = form(pressed)
            request = Request(f"http://127.0.0.1:{port}/slack/actions", body, signed(body))
            with urlopen(request, timeout=10) as answer:
                assert answer.status == 200
            process.wait_for(lambda: process.metric("spendfuse_alerting_orders_total").get("") == 1, 30, "the order")
            log.write(alert("noisy", 1.0, state="escalated", at_ms=now_ms + 1), alert("another", at_ms=now_ms + 1))
            wait_told(process, hook, "another")
            assert process.stop() == 0, process.tail()
        told = [(each["subject"], each["type"]) for each in hook.bodies]
        assert told == [
            ("noisy", "spendfuse.incident.open.v1"),
            ("noisy", "spendfuse.acknowledged.open.v1"),
            ("another", "spendfuse.incident.open.v1"),
        ]


def test_another_routing_takes_over_without_a_restart(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """A published policy's receivers are told from then on, and of incidents that were told elsewhere before, those
    who were told go on to be told.
    """
    log, now_ms = AlertLog(kafka_topics), wall_ms()
    with Listening(webhook()) as before, Listening(webhook()) as after:
        policy = policy_file(tmp_path, TO_THE_HOOK.format(url=before.url))
        with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
            log.write(alert("first", at_ms=now_ms))
            wait_told(process, before, "first")
            changed = tmp_path / "changed.toml"
            changed.write_text(
                TO_THE_HOOK.format(url=after.url)
                .replace("receivers.hook", "receivers.other")
                .replace('["hook"]', '["other"]'),
                encoding="utf-8",
            )
            _publish(kafka_topics, changed)
            process.wait_said("another routing is in force")
            log.write(alert("second", at_ms=now_ms))
            wait_told(process, after, "second")
            assert process.stop() == 0, process.tail()
        assert incidents(before) == ["first"]


def _publish(space: TopicSpace, policy: Path) -> None:
    given = {"SPENDFUSE_KAFKA_BOOTSTRAP": space.bootstrap, "SPENDFUSE_PREFIX": space.prefix}
    command = [sys.executable, "-m", "streams", "policy", "publish", str(policy)]
    subprocess.run(command, cwd=ROOT, env=given, check=True, capture_output=True, timeout=60)


def test_two_processes_share_the_work_and_one_takes_over(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Each partition is told by one of them; when one dies, the other tells of all. What was on its way may be said
    again, and says so.
    """
    log, now_ms = AlertLog(kafka_topics), wall_ms()
    tenants = [f"tenant-{number}" for number in range(16)]

    def round_of(name: str) -> set[str]:
        log.write(*(alert(f"{tenant}-{name}", tenant_id=tenant, at_ms=now_ms) for tenant in tenants))
        return {f"{tenant}-{name}" for tenant in tenants}

    with Listening(webhook()) as hook:
        policy = policy_file(tmp_path, TO_THE_HOOK.format(url=hook.url))
        with (
            AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}, SLOT="a") as first,
            AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}, SLOT="b") as second,
        ):
            for process in (first, second):
                process.wait_owning(kafka_topics.partitions // 2)
            expected = round_of("both")
            wait_until(lambda: expected <= set(incidents(hook)), 30, "all told by both")
            assert min(sum(process.metric("spendfuse_alerting_sent_total").values()) for process in (first, second)) > 0
            first.kill()
            second.wait_owning(kafka_topics.partitions)
            expected |= round_of("one")
            second.wait_for(lambda: expected <= set(incidents(hook)), 30, "all told by one")
            assert second.stop() == 0, second.tail()
        assert set(incidents(hook)) == expected
        assert repeated_without_a_word(hook) == []


def test_a_record_that_cannot_be_read_holds_up_nobody(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """It is reported with its coordinates and counted, and whoever is on call is told, once a day for each partition:
    it may have been for somebody. What stands behind it is told. A sign of life from nowhere stops nothing either.
    """
    lost = alert("lost", detector=WATCHDOG, scope={}, at_ms=wall_ms())
    huge = alert("huge", evidence={"note": "x" * 600_000}, at_ms=wall_ms())
    with Listening(webhook()) as hook:
        policy = policy_file(tmp_path, TO_THE_HOOK.format(url=hook.url))
        with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
            log = AlertLog(kafka_topics)
            log.write(lost)
            places = log.put("alerts.v1", [("acme", each) for each in (b"{", None, b'{"alert_id": 5}', encode(huge))])
            log.write(alert("good", at_ms=wall_ms()))
            wait_told(process, hook, "good")
            said = process.wait_said("a record cannot be read", 4)
            assert [(line["partition"], line["offset"]) for line in said] == places
            process.wait_for(lambda: "unreadable-alerts" in rules(hook), 30, "somebody told")
            assert process.stop() == 0, process.tail()


def test_a_topic_that_ends_before_the_groups_place_is_read(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """An unclean election has cut alerts.v1, or the group's places came from another cluster: nothing that is there is
    passed over for standing before the place, and nothing is sent twice.
    """
    group, name = f"{kafka_topics.prefix}spendfuse-alerting", kafka_topics.name("alerts.v1")
    log = AlertLog(kafka_topics)
    with Listening(webhook()) as hook:
        policy = policy_file(tmp_path, TO_THE_HOOK.format(url=hook.url))
        with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
            log.write(alert("before", at_ms=wall_ms()))
            wait_told(process, hook, "before")
            assert process.stop() == 0, process.tail()
        beyond = [TopicPartition(name, number, 1_000) for number in range(kafka_topics.partitions)]
        places = [ConsumerGroupTopicPartitions(group, beyond)]
        admin = AdminClient({"bootstrap.servers": kafka_topics.bootstrap, "log_level": 0})

        def are_moved() -> bool:
            """Not before the group has missed its member."""
            moved = admin.alter_consumer_group_offsets(places)[group].result(20)
            return all(each.error is None for each in moved.topic_partitions)

        wait_until(are_moved, 30, "the group's places moved")
        log.write(alert("after", at_ms=wall_ms()))
        with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}) as process:
            wait_told(process, hook, "after")
            assert process.stop() == 0, process.tail()
        assert incidents(hook) == ["before", "after"]


@pytest.mark.parametrize(
    ("text", "secrets", "code", "said"),
    [
        pytest.param(TO_ALL, {}, 2, ["SLACK_BOT_TOKEN, for the receiver 'chat'", "PAGERDUTY_KEY"], id="no-secrets"),
        pytest.param("[receivers.x]\ntype = 'slack'", {}, 2, ["a slack receiver needs `channel`"], id="no-channel"),
    ],
)
def test_what_is_missing_is_said_at_the_start(
    kafka_topics: TopicSpace, tmp_path: Path, text: str, secrets: dict[str, str], code: int, said: list[str]
) -> None:
    """Settings and secrets that are missing end the process at once, with all of their names."""
    policy = policy_file(tmp_path, text)
    with AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, secrets) as process:
        assert process.wait_exit() == code, process.tail()
        assert [words for words in said if words not in process.text] == []


def test_missing_topics_are_named(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Without its topics it ends with what to do, instead of waiting for them silently."""
    policy = policy_file(tmp_path, "")
    with AlertingProcess(kafka_topics.bootstrap, "nothing-here.", policy, {}) as process:
        assert process.wait_exit() == 4, process.tail()
        assert "topics are missing" in process.text
        assert "topics apply" in process.text


TO_THE_CHANNEL = """
version = "channel"
[receivers.chat]
type = "slack"
channel = "#spend"
[[route]]
receivers = ["chat"]
group_by = ["owner"]
group_wait_seconds = 4
"""


def test_a_thousand_warnings_are_a_handful_of_messages(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """A thousand warnings for one owner, with something critical in their midst: the critical one is told first and
    alone, the warnings in a handful of messages that together account for each of them.
    """
    log, now_ms = AlertLog(kafka_topics), wall_ms()
    warnings = [alert(f"w{number}", 0.8, at_ms=now_ms, run_id=f"run-{number}") for number in range(1000)]
    with (
        Listening(slack()) as chat,
        AlertingProcess(
            kafka_topics.bootstrap,
            kafka_topics.prefix,
            policy_file(tmp_path, TO_THE_CHANNEL),
            {"SLACK_BOT_TOKEN": "xoxb-1"},
            SLACK_URL=f"{chat.url}/api/",
        ) as process,
    ):
        process.wait_owning(kafka_topics.partitions)
        log.write(*warnings[:500])
        log.write(alert("fire", 1.0, at_ms=now_ms, run_id="run-fire"))
        log.write(*warnings[500:])
        process.wait_for(lambda: _accounted(chat) >= 1001, 60, "all accounted for")
        assert process.stop() == 0, process.tail()
    assert "fire" in str(chat.bodies[0]), "the critical one came first"
    assert len(chat.bodies) <= 6, [body["text"] for body in chat.bodies]
    assert _accounted(chat) == 1001


def _accounted(chat: Listening) -> int:
    """How many incidents the channel was told of, by name or as a number."""
    return sum(_told_in(body["blocks"]) for body in chat.bodies)


def _told_in(blocks: list[dict[str, Any]]) -> int:
    """How many a message says it is about: one, or the number in its header."""
    found = re.search(r"([\d,]+) (?:warnings|incidents)", blocks[0]["text"]["text"])
    return int(found[1].replace(",", "")) if found else 1
