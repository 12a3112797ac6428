"""A partition of the worker on its own: what it makes of records, good and bad."""

from typing import Any

import msgspec
import pytest

from models.effects import Effect
from models.rules.policy import Policy, default_policy, read_policy
from models.state.rows import SCHEMA
from models.stimuli import PolicyChanged
from schemas.alert import Alert
from schemas.codec import encode
from schemas.control import Command
from schemas.dead_letter import DeadLetter
from schemas.errors import StateError
from schemas.internal.spend import ALL_TENANTS, ScopeSpend, SpendDelta
from schemas.signing import OperatorKey
from streams.clock import BrokerClock, monotonic_ms
from streams.kafka.order_reader import OrderReader
from streams.process.metrics import Metrics
from streams.settings import Settings
from streams.worker.fence import check_fence, read_fence, write_fence
from streams.worker.partition import Partition, PoisonedInput
from streams.worker.reporter import Reporter
from streams.worker.transactions import Outcome
from tests.support.leftovers import leftovers
from tests.support.messages import HOUR_MS, MONDAY_MS, llm_call, resume
from tests.support.notices import alert

KEY = b"the root key of operators, in tests"
READER = OrderReader((OperatorKey(KEY).public_key,))
ORDER = encode(resume(MONDAY_MS, "run", "r1"))
SIGNED = OperatorKey(KEY).order_headers("acme", ORDER)
CALL = encode(llm_call(MONDAY_MS, tenant_id="acme"))
LIMIT = 5
FOREVER_S = 3600.0


class Record:
    """A record as the client hands it out."""

    def __init__(self, topic: str, value: bytes | None, key: bytes | None = b"acme", headers: Any = None) -> None:
        self._fields = (topic, value, key, headers)
        self.at = 0

    def topic(self) -> str:
        return self._fields[0]

    def value(self) -> bytes | None:
        return self._fields[1]

    def key(self) -> bytes | None:
        return self._fields[2]

    def headers(self) -> Any:
        return self._fields[3]

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 1, MONDAY_MS


def call_of(tenant_id: str, ts_ms: int = MONDAY_MS) -> Record:
    """A record that is read."""
    return Record("usage.v1", encode(llm_call(ts_ms, tenant_id=tenant_id)), tenant_id.encode())


def junk(count: int) -> list[Record]:
    """Records of operator.v1 that order nothing, of every kind."""
    kinds = [
        Record("operator.v1", b"not an order"),
        Record("operator.v1", None),
        Record("operator.v1", ORDER),
        Record("operator.v1", ORDER, headers=[("spendfuse-signature", b"\xff")]),
        Record("operator.v1", ORDER, headers=[("spendfuse-signature", None)]),
    ]
    return [kinds[number % len(kinds)] for number in range(count)]


def letters(partition: Partition) -> list[DeadLetter]:
    """What was set aside since the last call."""
    return [each.value for each in partition.engine.drain_effects() if isinstance(each.value, DeadLetter)]


def read_orders(partition: Partition, records: list[Record]) -> None:
    """Let the partition read records of operator.v1."""
    for offset, record in enumerate(records, partition.operator_offset + 1):
        record.at = offset
        partition.operator(record, READER)


def read_usage(partition: Partition, records: list[Record]) -> None:
    """Let the partition read records of usage.v1."""
    for offset, record in enumerate(records, partition.usage_offset + 1):
        record.at = offset
        partition.usage(record)


@pytest.fixture
def partition() -> Partition:
    """One that has read nothing yet."""
    return Partition(0, 1, default_policy(), {}, None)


def test_spend_of_all_tenants_counts_once_and_makes_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delta at or below the fence is counted already, one that cannot be read is set aside with its place. Where no
    tenant of the partition's own ever spoke, time goes on from the deltas: what the company was told of ends by itself.
    """
    company = read_policy({"budget": [{"name": "company", "group_by": [], "period": "hour", "limit_usd": 1}]})
    meter_id = company.across_meters[0].meter_id
    amount = ScopeSpend(meter_id, (), "ana", MONDAY_MS, 10**9)
    delta = encode(SpendDelta(ts_ms=MONDAY_MS, amounts=[amount]))
    partition = Partition(0, 1, company, {}, None)
    for offset, value in enumerate((delta, b"junk", encode({"ts_ms": MONDAY_MS, "amounts": [["m", [], "", 0, -1]]}))):
        for _ in range(2):
            record = Record("spend.v1", value, ALL_TENANTS.encode())
            record.at = offset
            partition.spend(record)
    effects = partition.engine.drain_effects()
    assert [(one.value.value, one.value.level) for one in effects if isinstance(one.value, Alert)] == [(10**9, 1.0)]
    found = [(one.value.topic, one.value.offset) for one in effects if isinstance(one.value, DeadLetter)]
    assert found == [("spend.v1", 1), ("spend.v1", 2)]
    fence = read_fence(0, write_fence(partition.fence()), 1)
    assert fence is not None
    assert fence.spend_offset == partition.offsets["spend.v1"] == 2
    later_ms = monotonic_ms() + 2 * HOUR_MS
    monkeypatch.setattr("streams.clock.monotonic_ms", lambda: later_ms)
    partition.tick()
    states = [one.value.state for one in partition.engine.drain_effects() if isinstance(one.value, Alert)]
    assert states == ["resolved"]


def test_orders_that_are_none_never_stop_a_worker(partition: Partition) -> None:
    """Whoever may write operator.v1 could end every worker for good with a hundred bad records, were they counted."""
    read_orders(partition, junk(100))
    partition.check_poison(LIMIT)
    assert len(letters(partition)) == 100
    read_orders(partition, [Record("operator.v1", ORDER, headers=SIGNED)])
    assert letters(partition) == []


@pytest.mark.parametrize("value", [b"junk", None, b'{"type":"newer_kind"}'])
def test_what_could_be_read_and_cannot_any_more_stops_it_past_the_limit(
    partition: Partition, value: bytes | None
) -> None:
    """Most tenants that were read until now are read no more: this version is too old, most likely, and all that it set
    aside would be counted nowhere. Orders in between change nothing about that.
    """
    read_usage(partition, [call_of(tenant) for tenant in ("a", "b", "c")])
    read_usage(partition, [Record("usage.v1", value, b"abc"[n % 3 : n % 3 + 1]) for n in range(LIMIT)])
    read_orders(partition, [Record("operator.v1", ORDER, headers=SIGNED)])
    partition.check_poison(LIMIT)
    read_usage(partition, [Record("usage.v1", value, b"a")])
    with pytest.raises(PoisonedInput, match=r"more than 5 records of usage\.v1 in a row") as stopped:
        partition.check_poison(LIMIT)
    assert stopped.value.exit_code == 3


FLOODS = {
    "one tenant": [b"a"],
    "nobody": [None],
    "many that are made up": [b"made-up-%d" % number for number in range(1_000)],
    "keys that are no text": [b"\xff" * 3000],
    "a tenant and many that are made up": [b"a", *(b"made-up-%d" % number for number in range(1_000))],
}


@pytest.mark.parametrize("keys", FLOODS.values(), ids=FLOODS)
def test_a_flood_from_one_producer_is_set_aside_with_a_page(partition: Partition, keys: list[bytes | None]) -> None:
    """Whoever may write one key, none, or as many as they like, stops nobody else: each record is a dead letter, the
    service's owner is paged once an hour, and others' records count.
    """
    read_usage(partition, [call_of(tenant) for tenant in ("a", "b", "c")])
    for number in range(20 * LIMIT):
        read_usage(partition, [Record("usage.v1", b"junk", keys[number % len(keys)])])
        partition.check_poison(LIMIT)
    read_usage(partition, [call_of("b", MONDAY_MS + 1)])
    assert partition.engine.counts.events == 4
    assert partition.engine.counts.refused == 20 * LIMIT
    [page] = partition.pages
    assert (page.rule, page.severity, page.tenant_id) == ("unreadable-flood", "critical", "spendfuse")
    assert page.value == LIMIT + 1
    assert len(encode(page)) < 4_000
    assert partition.floods == 20 * LIMIT // (LIMIT + 1)


def test_a_flood_that_is_read_again_is_the_same_page(partition: Partition) -> None:
    """A worker that is restarted in the middle of one says it under the same id: nobody is paged twice."""
    pages = []
    for _ in range(2):
        partition = Partition(0, 1, default_policy(), {}, None)
        read_usage(partition, [Record("usage.v1", b"junk", None)] * (LIMIT + 1))
        partition.check_poison(LIMIT)
        pages += partition.pages
    assert pages[0].alert_id == pages[1].alert_id


def test_who_takes_a_partition_over_pages_no_second_time_for_a_flood(partition: Partition) -> None:
    """The fence knows the hour of the last page: a flood that goes on for another worker was told. In a day of mishaps
    each take-over wrote it once more.
    """
    flood = [Record("usage.v1", b"junk", None)] * (LIMIT + 1)
    read_usage(partition, flood)
    partition.check_poison(LIMIT)
    assert len(partition.pages) == 1
    rows = {key: value for key, value in partition.engine.drain_rows() if value is not None}
    following = Partition(0, 1, default_policy(), rows, partition.fence())
    read_usage(following, flood)
    following.check_poison(LIMIT)
    assert (following.floods, following.pages) == (1, [])


def test_a_tenant_is_told_of_what_could_not_be_read(partition: Partition) -> None:
    """From the first such record of a day under its key, and as a page from a thousand on; of a made-up key nothing is
    kept.
    """
    read_usage(partition, [call_of("a")])
    partition.engine.drain_effects()
    bad = encode(llm_call(MONDAY_MS, tenant_id="a", run_id="r" * 200))
    read_usage(partition, [Record("usage.v1", bad, b"a"), Record("usage.v1", b"junk", b"made-up")] * 1_200)
    alerts = [each.value for each in partition.engine.drain_effects() if isinstance(each.value, Alert)]
    assert [(one.rule, one.tenant_id, one.severity) for one in alerts] == [
        ("data-quality", "a", "warning"), ("data-quality", "a", "error"),
    ]  # fmt: skip
    assert alerts[0].value == 1
    assert 1_000 <= alerts[1].value < 1_200  # today's figures are asked for at every eighth more
    assert "wrong_value" in alerts[0].evidence["reasons"][0]
    assert set(partition.engine.tenants) == {"a"}


def test_usage_that_was_read_is_no_poison(partition: Partition) -> None:
    """One good record ends the row; a record under another tenant's key was read well enough to be refused."""
    bad, good = Record("usage.v1", b"junk"), Record("usage.v1", CALL)
    read_usage(partition, [bad] * LIMIT + [good] + [bad] * LIMIT)
    partition.check_poison(LIMIT)
    read_usage(partition, [good] + [Record("usage.v1", CALL, b"another")] * 100)
    partition.check_poison(LIMIT)


def test_refused_orders_have_a_number_of_their_own(partition: Partition) -> None:
    """A flood of bad usage does not hide one forged order."""
    metrics = Metrics()
    read_orders(partition, junk(3))
    read_usage(partition, [Record("usage.v1", b"junk")])
    outcome = Outcome()
    outcome.effects = partition.engine.drain_effects()
    Reporter(Settings(), metrics).committed([partition], outcome)
    counted = {
        reason: metrics.registry.get_sample_value("spendfuse_refused_orders_total", {"reason": reason})
        for reason in ("bad_signature", "empty", "not_json")
    }
    assert counted == {"bad_signature": 1, "empty": 1, "not_json": 1}


def stop_times(alerts: list[tuple[str, dict[str, Any]]]) -> float | None:
    """How many stops are measured when these alerts are committed: incident and evidence of each."""
    metrics, outcome = Metrics(), Outcome()
    reporter = Reporter(Settings(), metrics)
    for incident, evidence in alerts:
        outcome.effects = [Effect("alerts.v1", "acme", alert(incident_id=incident, evidence=evidence))]
        reporter.committed([], outcome)
    return metrics.registry.get_sample_value("spendfuse_cause_to_stop_seconds_count")


@pytest.mark.parametrize(
    ("alerts", "measured"),
    [
        pytest.param([("a", {"command_id": "c1", "cause_to_stop_ms": 100})], 1, id="one kill, one alert"),
        pytest.param(
            [(name, {"command_id": "c1", "cause_to_stop_ms": 100}) for name in "abc"], 1, id="three incidents"
        ),
        pytest.param(
            [("a", {"command_id": "c1", "cause_to_stop_ms": 100})] * 2, 1, id="at the acknowledgement and at the end"
        ),
        pytest.param([("a", {"command_id": f"c{n}", "cause_to_stop_ms": 100}) for n in "12"], 2, id="two kills"),
        pytest.param([("a", {"command_id": "c1"})], 0, id="not obeyed yet"),
    ],
)
def test_a_kill_is_measured_once(alerts: list[tuple[str, dict[str, Any]]], measured: int) -> None:
    """Cause to stop is about commands: however many incidents or states tell of one, it is one observation."""
    assert stop_times(alerts) == measured


def test_another_policy_is_known_by_its_settings(partition: Partition) -> None:
    """A policy published while no worker ran is a change although its author left the version as it was: what lives is
    judged by it at once.
    """
    loose, strict = capped(100), capped(1)
    assert loose.version == strict.version
    before = Partition(0, 1, loose, {}, None)
    read_usage(before, [Record("usage.v1", encode(llm_call(MONDAY_MS, tenant_id="acme", run_id="r1", usd=5)))])
    before.engine.drain_effects()
    rows = {key: value for key, value in before.engine.drain_rows() if value is not None}
    fence = read_fence(0, write_fence(before.fence()), len(rows))
    assert fence is not None
    assert (fence.policy_version, fence.policy_stamp) == (loose.version, loose.stamp)
    kills = []
    for policy in (loose, strict):
        after = Partition(0, 1, policy, dict(rows), fence)
        after.catch_up(FOREVER_S)
        kills.append([each.value.action for each in after.engine.drain_effects() if isinstance(each.value, Command)])
        assert after.fence().policy_stamp == policy.stamp
    assert kills == [[], ["kill"]]


def capped(limit_usd: int) -> Policy:
    """A policy under which a run that reaches the limit is killed."""
    cap = {"name": "c", "limit_usd": limit_usd, "at_limit": "kill", "mode": "enforce"}
    return read_policy({"version": "as it was", "cap": [cap]})


def kills_issued_ms(partition: Partition) -> list[int]:
    """When the kills were given that its engine has to publish, once all tenants follow its policy."""
    partition.catch_up(FOREVER_S)
    return [each.value.issued_ms for each in partition.engine.drain_effects() if isinstance(each.value, Command)]


@pytest.mark.parametrize(("policy_ms", "issued_ms"), [(MONDAY_MS + 60_000, MONDAY_MS + 60_000), (0, MONDAY_MS)])
def test_a_policy_taken_up_at_a_restart_kills_at_its_own_time(policy_ms: int, issued_ms: int) -> None:
    """Not at the tenant's last message: the kill would be late at once. Without a time that is all that is known."""
    before = Partition(0, 1, capped(100), {}, None)
    read_usage(before, [Record("usage.v1", encode(llm_call(MONDAY_MS, run_id="r1", usd=5)))])
    rows = {key: value for key, value in before.engine.drain_rows() if value is not None}
    fence = msgspec.structs.replace(before.fence(), written_ms=MONDAY_MS)
    brokers = BrokerClock()
    brokers.heard(MONDAY_MS + 120_000)
    after = Partition(0, 1, capped(1), rows, fence, policy_ms, brokers=brokers)
    assert kills_issued_ms(after) == [issued_ms]


def test_a_policy_is_not_in_force_before_the_input_has_been_read_so_far(partition: Partition) -> None:
    """While there is more to read, time stands where the input does: what comes before the policy is still to come."""
    partition.change_policy(PolicyChanged(capped(100), MONDAY_MS))
    read_usage(partition, [Record("usage.v1", encode(llm_call(MONDAY_MS, run_id="r1", usd=5)))])
    partition.change_policy(PolicyChanged(capped(1), MONDAY_MS + 3_600_000))
    assert kills_issued_ms(partition) == [MONDAY_MS]


@pytest.mark.parametrize(("schema", "words"), [(SCHEMA + 1, "a newer version"), (SCHEMA - 1, "an older version")])
def test_state_of_another_layout_is_refused(partition: Partition, schema: int, words: str) -> None:
    """Rows that this version would read wrongly end it with code 3 and the way out, whichever side it is on."""
    with pytest.raises(StateError, match=words) as refused:
        check_fence(0, msgspec.structs.replace(partition.fence(), schema=schema), 1)
    assert "rebuild --from-input" in str(refused.value)
    check_fence(0, partition.fence(), 1)


def test_nothing_is_left_of_a_partition_that_is_let_go() -> None:
    """Neither of one that has read good and bad, nor of the one made from its rows: the worker has no collector."""

    class Owner:
        """As the worker: it has partitions, and they show it signs of life."""

        def __init__(self) -> None:
            self.partitions: list[Partition] = []

        def breathe(self) -> None:
            assert self.partitions is not None

    def live() -> None:
        owner, rows = Owner(), dict[bytes, bytes]()
        fence = None
        for _ in range(2):
            partition = Partition(0, 1, default_policy(), rows, fence, breathe=owner.breathe)
            owner.partitions = [partition]
            for at, record in enumerate([call_of("acme"), *junk(5), call_of("acme", MONDAY_MS + 1)]):
                record.at = partition.usage_offset + 1 + at
                if record.topic() == "usage.v1":
                    partition.usage(record)
                else:
                    partition.operator(record, READER)
            partition.tick()
            rows |= {key: value for key, value in partition.engine.drain_rows() if value is not None}
            fence = read_fence(0, write_fence(partition.fence()), len(rows))
        owner.partitions.clear()

    found = leftovers(live)
    assert not found, found
