"""What came too late, out of the topics and booked: every dollar once, whatever dies on the way and however often."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from schemas.codec import decode_rollup
from streams.clock import wall_ms
from streams.kafka.partitioner import partition_of
from tests.support.kafka import Record, TopicSpace, commands_on, produce, read_all
from tests.support.messages import DAY_MS, HOUR_MS, USD
from tests.support.service_process import ROOT
from tests.support.worker_process import WorkerProcess

TENANTS = ("acme", "modest", "initech")
LATE = 20
POLICY = 'version = "backfill"\n[[cap]]\nname = "run-cost"\nlimit_usd = 5\nat_limit = "kill"\nmode = "enforce"\n'


def event(
    tenant: str, event_id: str, ts_ms: int, append_ms: int, partition: int | None = None, **fields: Any
) -> Record:
    """A call of a dollar, or what `fields` say, appended then."""
    message = {
        "type": "llm_call", "event_id": event_id, "ts_ms": ts_ms, "tenant_id": tenant, "run_id": f"run-{tenant}",
        "model": "m", "cost_nanousd": USD, **fields,
    }  # fmt: skip
    home = partition_of(tenant.encode(), 4)
    return Record(
        json.dumps(message).encode(), tenant.encode(), (), append_ms, home if partition is None else partition
    )


def history(now_ms: int) -> list[Record]:
    """Each tenant counts a call in time, lives on until that id is forgotten, and sends what happened two days ago only
    now, and the first call again.
    """
    first_ms, happened_ms = now_ms - 3 * DAY_MS, now_ms - 2 * DAY_MS
    records = [event(tenant, "in-time", first_ms, first_ms) for tenant in TENANTS]
    for hours in (3, 6, 9):
        at_ms = first_ms + hours * HOUR_MS
        records += [event(tenant, f"alive-{hours}", at_ms, at_ms, cost_nanousd=0) for tenant in TENANTS]
    for tenant in TENANTS:
        away = (partition_of(tenant.encode(), 4) + 1) % 4
        start: dict[str, Any] = {"type": "run_started", "workflow": "nightly", "model": None, "cost_nanousd": None}
        records += [
            event(tenant, "now", now_ms, now_ms, run_id="other", cost_nanousd=0),
            event(tenant, "started", happened_ms, now_ms, **start),
            *(event(tenant, f"late-{number}", happened_ms, now_ms) for number in range(LATE - 1)),
            event(tenant, "late-away", happened_ms, now_ms, away),
            event(tenant, "late-0", happened_ms, now_ms),
            event(tenant, "in-time", first_ms, now_ms),
        ]
    return records


def backfill(space: TopicSpace, *words: str) -> tuple[int, str]:
    """The exit code of the command, and what it said."""
    given = os.environ | {"SPENDFUSE_KAFKA_BOOTSTRAP": space.bootstrap, "SPENDFUSE_PREFIX": space.prefix}
    command = [sys.executable, "-m", "streams", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=given, check=False, capture_output=True, timeout=100, text=True, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout + done.stderr


def booked(space: TopicSpace) -> Counter[tuple[str, str]]:
    """Tenant and workflow -> what the rollups of booked events come to, the last of each key."""
    standing = {record.key: record.value for record in read_all(space.bootstrap, space.name("rollups.v1"))}
    rollups = [decode_rollup(value) for value in standing.values()]
    totals: Counter[tuple[str, str]] = Counter()
    for one in rollups:
        if one.booked_hour_ms is not None:
            totals[one.tenant_id, one.workflow] += one.cost_nanousd
    return totals


def letters(space: TopicSpace) -> list[dict[str, Any]]:
    """What the dead letters say."""
    return [json.loads(record.value or b"") for record in read_all(space.bootstrap, space.name("usage.dlq.v1"))]


def test_every_late_dollar_is_booked_once(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Shown, asked for, booked: also while the worker dies, after an answer that was no, a second time, and from a log
    that was recorded. What had been counted in time, and was sent again, is not booked; no run is stopped for its past.
    """
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    log = tmp_path / "log.jsonl"
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    produce(bootstrap, kafka_topics.name("usage.v1"), history(wall_ms()))
    with WorkerProcess(bootstrap, prefix, policy, BATCH_RECORDS=9) as worker:
        set_aside = len(TENANTS) * (LATE + 2)
        worker.wait_for(lambda: len(letters(kafka_topics)) >= set_aside, 60, "all that came late set aside")
        assert {letter["reason"] for letter in letters(kafka_topics)} == {"too_late"}
        code, said = backfill(kafka_topics, "backfill", "--since", "1h")
        assert (code, "nothing was changed. If that is meant, add --yes" in said) == (2, True), said
        assert f"nightly       {LATE}  $20.00" in said
        assert f"left out: {len(TENANTS)} counted in time" in said
        assert worker.stop() == 0, worker.tail()
    assert len(letters(kafka_topics)) == set_aside
    assert backfill(kafka_topics, "backfill", "--since", "1h", "--tenant", "acme", "--yes")[0] == 0
    with WorkerProcess(bootstrap, prefix, policy, KILL_AT="rows_sent:2", BATCH_RECORDS=9) as dying:
        code, said = backfill(kafka_topics, "backfill", "--since", "1h", "--yes")
        assert (code, f"left out: {LATE} booked before" in said) == (0, True), said
        assert dying.wait_exit() == -9, dying.tail()
    code, said = backfill(kafka_topics, "record", "--since", "4d", "--out", str(log))
    assert code == 0, said
    for words in (("--yes",), ("--events", str(log), "--yes")):
        code, said = backfill(kafka_topics, "backfill", "--since", "1h", *words)
        assert (code, f"left out: {len(TENANTS) * LATE} booked before" in said) == (0, True), said
        assert "nothing to book" in said
    expected = Counter({(tenant, "nightly"): LATE * USD for tenant in TENANTS})
    with WorkerProcess(bootstrap, prefix, policy) as worker:
        worker.wait_for(lambda: booked(kafka_topics) == expected, 60, "every late dollar booked")
        assert worker.stop() == 0, worker.tail()
    assert commands_on(bootstrap, kafka_topics.name("control.v1")) == []
    assert len(letters(kafka_topics)) == set_aside
