"""What is no usage message: set aside with its coordinates and a reason, and its neighbours are counted."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tests.support.corpus import ACCEPTED, REFUSED, TENANT
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.messages import YESTERDAY_MS
from tests.support.state_rows import counted
from tests.support.worker_process import WorkerProcess

GOOD_NANOUSD = 1_000_003
SECOND = "second"
HOME = 2
"""The partition of both tenants."""


def good(number: int, tenant: str = TENANT, **fields: Any) -> Record:
    """A message that costs `GOOD_NANOUSD`."""
    call = {
        "type": "llm_call", "event_id": f"good-{number}", "ts_ms": YESTERDAY_MS, "tenant_id": tenant,
        "run_id": f"good-{number % 7}", "model": "m", "cost_nanousd": GOOD_NANOUSD,
    } | fields  # fmt: skip
    return Record(json.dumps(call).encode(), tenant.encode(), timestamp_ms=YESTERDAY_MS, partition=HOME)


def feed(space: TopicSpace, records: Sequence[Record]) -> list[Record]:
    return produce(space.bootstrap, space.name("usage.v1"), records)


def dead_letters(space: TopicSpace) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in read_all(space.bootstrap, space.name("usage.dlq.v1"))]


def last_offset(records: Sequence[Record]) -> int:
    return max(record.offset or 0 for record in records)


def test_each_kind_of_bad_record_is_set_aside_and_its_neighbours_count(kafka_topics: TopicSpace) -> None:
    """Every record of the corpus stands between two good ones. Each bad one becomes one dead letter with its topic,
    partition, offset, reason and hash, none of the odd but valid ones does, and every good one is counted exactly.
    """
    records: list[Record] = []
    reasons: dict[int, str] = {}
    for value, reason in [(each.value, each.reason) for each in REFUSED] + [(each.value, "") for each in ACCEPTED]:
        records.append(good(len(records)))
        if reason:
            reasons[len(records)] = reason
        records.append(Record(value, TENANT.encode(), timestamp_ms=YESTERDAY_MS, partition=HOME))
    records.append(good(len(records)))
    sent = feed(kafka_topics, records)
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix) as worker:
        worker.wait_applied({HOME: last_offset(sent)})
        assert worker.stop() == 0, worker.tail()
    expected = {
        (kafka_topics.name("usage.v1"), HOME, sent[place].offset, reason, _sha256(sent[place].value))
        for place, reason in reasons.items()
    }
    letters = dead_letters(kafka_topics)
    found = {tuple(letter[name] for name in ("topic", "partition", "offset", "reason", "sha256")) for letter in letters}
    assert found == expected
    assert len(letters) == len(expected), "a record was set aside twice"
    # The valid ones of the corpus have one id, so that one of them counts: it costs nothing or a million dollars.
    assert counted(kafka_topics)[TENANT] % 10**15 == (len(REFUSED) + len(ACCEPTED) + 1) * GOOD_NANOUSD


def test_spend_under_another_tenants_key_is_refused(kafka_topics: TopicSpace) -> None:
    """A producer that may only write its own key cannot spend in somebody else's name; without a key it is believed."""
    forged = Record(good(1, "victim").value, b"attacker", timestamp_ms=YESTERDAY_MS, partition=HOME)
    unkeyed = Record(good(2, "modest").value, None, timestamp_ms=YESTERDAY_MS, partition=HOME)
    sent = feed(kafka_topics, [good(0, "attacker"), forged, unkeyed, good(3, "attacker")])
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix) as worker:
        worker.wait_applied({HOME: last_offset(sent)})
        assert worker.metric("spendfuse_unkeyed_total") == {"": 1.0}
        assert worker.stop() == 0, worker.tail()
    [letter] = dead_letters(kafka_topics)
    assert (letter["reason"], letter["offset"], letter["key"]) == ("wrong_tenant", 1, "attacker")
    assert counted(kafka_topics) == {"attacker": 2 * GOOD_NANOUSD, "modest": GOOD_NANOUSD}


def bad(key: str | None) -> Record:
    """A record that nobody can read."""
    return Record(b"not a message", None if key is None else key.encode(), timestamp_ms=YESTERDAY_MS, partition=HOME)


def test_a_flood_from_one_producer_stops_nobody(kafka_topics: TopicSpace) -> None:
    """Under one tenant's key, under none and under many that are made up: every bad record is set aside once, also by a
    worker that is killed on the way, somebody is paged about the service and about the tenant, and all else counts.
    """
    floods = [bad(TENANT)] * 300 + [bad(None)] * 300 + [bad(f"made-up-{number}") for number in range(300)]
    before = [*map(good, range(20)), good(20, SECOND)]
    sent = feed(kafka_topics, [*before, *floods, good(21, SECOND), good(22)])
    settings: dict[str, Any] = {"policy": None, "slot": "0", "DEAD_LETTER_LIMIT": 200, "BATCH_RECORDS": 40}
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, KILL_AT="rows_sent:8", **settings) as worker:
        worker.wait_exit()
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, **settings) as worker:
        worker.wait_applied({HOME: last_offset(sent)})
        assert sum(worker.metric("spendfuse_unreadable_floods_total").values()) >= 2
        assert worker.stop() == 0, worker.tail()
    assert sorted(letter["offset"] for letter in dead_letters(kafka_topics)) == list(range(21, 921))
    assert counted(kafka_topics) == {TENANT: 21 * GOOD_NANOUSD, SECOND: 2 * GOOD_NANOUSD}
    alerts = [
        json.loads(each.value or b"") for each in read_all(kafka_topics.bootstrap, kafka_topics.name("alerts.v1"))
    ]
    told = {(alert["tenant_id"], alert["rule"]) for alert in alerts}
    assert {("spendfuse", "unreadable-flood"), (TENANT, "data-quality")} <= told


def test_what_could_be_read_and_cannot_any_more_stops_the_worker_and_loses_nothing(kafka_topics: TopicSpace) -> None:
    """Past the limit of bad records in a row, from those that were read before, it ends with exit code 3 and says what
    to do. What it had not committed is still to be done: started without a limit, it sets every bad record aside once
    and counts every good one.
    """
    bads = [bad(TENANT), bad(SECOND)] * 150
    sent = feed(kafka_topics, [*map(good, range(49)), good(49, SECOND), *bads, *map(good, range(50, 60))])
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, DEAD_LETTER_LIMIT=200, BATCH_RECORDS=40) as worker:
        assert worker.wait_exit() == 3, worker.tail()
        assert "more than 200 records of usage.v1 in a row cannot be read" in worker.text
        assert "SPENDFUSE_DEAD_LETTER_LIMIT" in worker.text
    assert len(dead_letters(kafka_topics)) <= 200
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, DEAD_LETTER_LIMIT=0) as worker:
        worker.wait_applied({HOME: last_offset(sent)})
        assert worker.stop() == 0, worker.tail()
    assert sorted(letter["offset"] for letter in dead_letters(kafka_topics)) == list(range(50, 350))
    assert counted(kafka_topics) == {TENANT: 59 * GOOD_NANOUSD, SECOND: GOOD_NANOUSD}


def _sha256(value: bytes | None) -> str:
    return hashlib.sha256(value or b"").hexdigest()
