"""`python -m alerting` dies, at one exact place or at any, while alerts flow: everybody hears of everything.

Row 51 of the fault matrix: before and after the request to a receiver, before and after the log is written, and
everywhere else. What may be said twice is said to be so: nothing else is.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from schemas.alert import Alert
from streams.clock import wall_ms
from tests.support.alerting_process import (
    TO_THE_HOOK,
    AlertingProcess,
    AlertLog,
    Listening,
    repeated_without_a_word,
)
from tests.support.kafka import TopicSpace, wait_until
from tests.support.receivers import webhook
from tests.support.telling import alert

SEED = 20_261_122
TENANTS = 8
STAGES = ("taken", "publishing", "published", "sending", "answered", "handled")


class Incidents(threading.Thread):
    """Incidents that open, get worse and, two of three, end; written steadily from a thread of its own."""

    def __init__(self, space: TopicSpace, count: int, per_s: float, rng: Random) -> None:
        super().__init__(name="incidents", daemon=True)
        self.last: dict[str, tuple[str, float]] = {}
        """Incident -> state and level of its last alert."""
        self.written = 0
        self._steps = list(_steps(count, rng))
        self._log = AlertLog(space)
        self._per_s = per_s
        self._stop_asked = threading.Event()

    def run(self) -> None:
        for each in self._steps:
            if self._stop_asked.wait(1 / self._per_s):
                return
            self._log.write(each)
            self.last[each.incident_id] = (each.state, each.level)
            self.written += 1

    def abandon(self) -> None:
        """Write no more."""
        self._stop_asked.set()
        self.join(30)

    def finish(self) -> None:
        """Wait until all is written."""
        self.join(240)
        assert not self.is_alive()


def _steps(count: int, rng: Random) -> Iterator[Alert]:
    """The alerts of `count` incidents, each in its order, mixed with each other's."""
    now_ms = wall_ms()
    waiting: list[list[Alert]] = []
    for number in range(count):
        about: dict[str, Any] = {"tenant_id": f"tenant-{number % TENANTS}", "at_ms": now_ms + number}
        steps = [alert(f"i{number}", 0.8, **about), alert(f"i{number}", 1.0, state="escalated", **about)]
        if number % 3:
            steps.append(alert(f"i{number}", 1.0, state="resolved", **about))
        waiting.append(steps)
    while waiting:
        steps = waiting[rng.randrange(min(len(waiting), 20))]
        yield steps.pop(0)
        waiting = [each for each in waiting if each]


@pytest.fixture
def hook() -> Iterator[Listening]:
    with Listening(webhook()) as listening:
        yield listening


def start(space: TopicSpace, folder: Path, hook: Listening, **settings: object) -> AlertingProcess:
    policy = folder / "policy.toml"
    policy.write_text(TO_THE_HOOK.format(url=hook.url), encoding="utf-8")
    return AlertingProcess(space.bootstrap, space.prefix, policy, {}, SLOT="one", **settings)


def last_told(hook: Listening) -> dict[str, tuple[str, float]]:
    """Incident -> state and level of the newest that the receiver heard of it."""
    told: dict[str, tuple[str, float]] = {}
    for body in hook.bodies:
        for each in body["data"]["alerts"]:
            told[each["incident_id"]] = max(
                told.get(each["incident_id"], ("", 0.0)),
                (each["state"], each["level"]),
                key=lambda step: (step[0] == "resolved", step[1]),
            )
    return told


def finish(space: TopicSpace, folder: Path, hook: Listening, incidents: Incidents, told: str) -> None:
    """A process that lives tells the rest; then everything was told, and every repetition is marked as one."""
    with start(space, folder, hook) as process:
        incidents.finish()
        process.wait_for(lambda: last_told(hook) == incidents.last, 90, f"{told}: everything told")
        assert process.stop() == 0, process.tail()
    assert repeated_without_a_word(hook) == [], told


@pytest.mark.parametrize("stage", STAGES)
def test_a_death_at_any_stage_loses_nothing(
    kafka_topics: TopicSpace, tmp_path: Path, hook: Listening, stage: str
) -> None:
    """Row 51: three deaths at a stage; every incident's last state arrives, and what is repeated says so."""
    rng = Random(f"{SEED} {stage}")
    incidents = Incidents(kafka_topics, count=60, per_s=20, rng=rng)
    passes = [rng.randint(1, 15) for _ in range(3)]
    told = f"{stage} at passes {passes}"
    incidents.start()
    try:
        for number in passes:
            with start(kafka_topics, tmp_path, hook, KILL_AT=f"{stage}:{number}") as process:
                assert process.wait_exit() == -9, f"{told}:\n{process.tail()}"
        finish(kafka_topics, tmp_path, hook, incidents, told)
    finally:
        incidents.abandon()


def test_deaths_while_the_log_is_read(kafka_topics: TopicSpace, tmp_path: Path, hook: Listening) -> None:
    """Row 51: a restore that never ends well changes nothing, however often it is begun."""
    incidents = Incidents(kafka_topics, count=30, per_s=20, rng=Random(SEED))
    incidents.start()
    try:
        for stage in ("handled:9", "restoring:1", "restoring:3"):
            with start(kafka_topics, tmp_path, hook, KILL_AT=stage) as process:
                assert process.wait_exit() == -9, process.tail()
        finish(kafka_topics, tmp_path, hook, incidents, "restoring")
    finally:
        incidents.abandon()


def test_a_process_that_was_frozen_does_not_act_on_what_it_believed(
    kafka_topics: TopicSpace, tmp_path: Path, hook: Listening
) -> None:
    """Frozen for longer than the group waits, it ends when it thaws; what it had is told by its sibling meanwhile."""
    incidents = Incidents(kafka_topics, count=100, per_s=20, rng=Random(SEED))
    policy = tmp_path / "policy.toml"
    policy.write_text(TO_THE_HOOK.format(url=hook.url), encoding="utf-8")
    incidents.start()
    try:
        with (
            AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}, SLOT="a") as frozen,
            AlertingProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy, {}, SLOT="b") as sibling,
        ):
            frozen.wait_owning(kafka_topics.partitions // 2)
            frozen.freeze()
            sibling.wait_owning(kafka_topics.partitions)
            frozen.thaw()
            assert frozen.wait_exit() == 70, frozen.tail()
            assert "stood still" in frozen.text
            incidents.finish()
            sibling.wait_for(lambda: last_told(hook) == incidents.last, 90, "everything told")
            assert sibling.stop() == 0, sibling.tail()
    finally:
        incidents.abandon()
    assert repeated_without_a_word(hook) == []


@pytest.mark.timeout(400)
def test_a_dozen_deaths_at_any_moment(kafka_topics: TopicSpace, tmp_path: Path, hook: Listening) -> None:
    """Row 51: killed a dozen times at random moments under load, it tells of every incident how it stands in the end;
    repetitions are no more than messages whose outcome nobody learned, and each is marked.
    """
    rng = Random(SEED)
    kills = 12
    incidents = Incidents(kafka_topics, count=700, per_s=25, rng=rng)
    incidents.start()
    try:
        for number in range(kills):
            with start(kafka_topics, tmp_path, hook) as process:
                process.wait_for(
                    lambda: sum(process.metric("spendfuse_alerting_sent_total").values()) > 0, 60, "something told"
                )
                wait_until(_after(incidents, rng.randint(1, 20)), 60, f"the moment of kill {number}")
                process.kill()
        finish(kafka_topics, tmp_path, hook, incidents, f"seed {SEED}, {kills} kills")
    finally:
        incidents.abandon()


def _after(incidents: Incidents, more: int) -> Any:
    until = incidents.written + more
    return lambda: incidents.written >= until or not incidents.is_alive()
