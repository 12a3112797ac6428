"""`doctor`: a line for each thing, ok, warning or wrong, with what to do; nothing is created by looking."""

from typing import Any

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from infra.kafka.embedded import EmbeddedBroker
from models.rules.policy import Policy, read_policy_toml
from schemas.alert import Alert
from schemas.control import Command
from schemas.duration import HOUR_MS, MINUTE_MS
from schemas.signing import OperatorKey
from streams.__main__ import main
from streams.kafka.admin import GroupDescription, Member
from streams.kafka.records import Records
from streams.settings import read_settings
from streams.tools.inspection.cluster_checks import GROUPS, clock_finding, lag_finding, owners_finding
from streams.tools.inspection.doctor import advice, lines
from streams.tools.inspection.finding import Finding, Health
from streams.tools.inspection.service_checks import (
    Published,
    guards_finding,
    hosts_finding,
    key_ids,
    policy_findings,
    published_policy,
)
from streams.worker.fence import Fence
from tests.support.facts import NOW_MS, alert, command
from tests.support.kafka import Record, produce

OPERATOR = "the root key of operators, in tests"
ENGINE = "the root key of the engine, in tests"
BEAT_MS = MINUTE_MS

CLOCKS: list[tuple[int | None, Health, str]] = [
    (None, "ok", "not known"),
    (NOW_MS - 16, "ok", "this host and the cluster agree to within 16 ms"),
    (NOW_MS - BEAT_MS, "ok", "agree to within 1 min"),
    (NOW_MS + 1_000, "ok", "agree"),
    (NOW_MS + 3_000, "warning", "this host is 3 s or more behind the cluster"),
    (NOW_MS + 6 * MINUTE_MS, "wrong", "this host is 6 min or more behind the cluster"),
    (NOW_MS - HOUR_MS, "warning", "not known: the newest commit is 1 h old"),
]


@pytest.mark.parametrize(("newest_ms", "health", "said"), CLOCKS)
def test_clocks(newest_ms: int | None, health: Health, said: str) -> None:
    """A commit of the future is this host's fault; an old one may be, and that is said."""
    found = clock_finding(newest_ms, NOW_MS, BEAT_MS)
    assert found.health == health
    assert said in found.text


def test_lag_is_told_partition_by_partition() -> None:
    """Some is normal; much is worth a second look."""
    worker = GROUPS[0]
    behind = {("usage.v1", 0): 0, ("usage.v1", 1): 1_200}
    assert lag_finding(worker, dict.fromkeys(behind, 0)).text == "nothing of usage.v1 waits in any of 2 partitions"
    assert lag_finding(worker, behind).health == "ok"
    assert lag_finding(worker, behind).text.endswith("by partition: 0: 0, 1: 1,200")
    assert lag_finding(worker, behind | {("usage.v1", 2): 10_001}).health == "warning"


def shared_out(*owned: set[int], settled: bool = True) -> GroupDescription:
    """A group whose members own these."""
    members = (Member(f"engine-{number}", "host", True, frozenset(one)) for number, one in enumerate(owned))
    return GroupDescription(settled, tuple(members))


OWNERS: list[tuple[GroupDescription, dict[int, int], int, Health, str]] = [
    (shared_out({0, 1}, {2}), {}, 0, "ok", "each of 3 partitions has a worker"),
    (shared_out({0, 1}, {2}), {2: 5}, MINUTE_MS, "ok", "each of 3"),
    (shared_out({0, 1}, {2}), {}, HOUR_MS, "ok", "each of 3"),
    (shared_out({0, 1}, {2}), {2: 5}, HOUR_MS, "wrong", "records of partition 2 wait, and its worker has committed"),
    (shared_out({0, 1}), {}, 0, "wrong", "no worker owns partition 2 of usage.v1"),
    (shared_out(set(), settled=False), {}, HOUR_MS, "warning", "the workers are sharing the partitions out"),
]


@pytest.mark.parametrize(("group", "waiting", "silent_ms", "health", "said"), OWNERS)
def test_a_partition_on_which_nobody_works_is_found(
    group: GroupDescription, waiting: dict[int, int], silent_ms: int, health: Health, said: str
) -> None:
    """One that nobody owns, and one whose owner does nothing while records wait; a rebalance is neither."""
    found = owners_finding(group, dict.fromkeys(range(3), 0) | waiting, dict.fromkeys(range(3), silent_ms))
    assert (found.health, said in found.text) == (health, True), found.text


def rules(version: str, limit: int = 5) -> Policy:
    """A policy."""
    return read_policy_toml(f'version = "{version}"\n[[cap]]\nname = "c"\nlimit_usd = {limit}\n')


def fence(of: Policy) -> Fence:
    """The end of a state that follows a policy."""
    return Fence(
        usage_offset=1, operator_offset=1, digest="", schema=1, partitions=4, policy_version=of.version,
        policy_stamp=of.stamp, last_append_ms=NOW_MS, written_ms=NOW_MS,
    )  # fmt: skip


HOSTS: list[tuple[dict[int, int], Health, str]] = [
    ({}, "ok", "not known: no worker has committed anything yet"),
    ({0: 12, 1: -1_500}, "ok", "agree to within 1.5 s"),
    ({0: 3_300_000, 1: 0, 2: -60_000}, "warning", "from the brokers', 0: 55 min ahead, 2: 1 min behind"),
]


@pytest.mark.parametrize(("ahead_ms", "health", "said"), HOSTS)
def test_a_worker_on_a_host_with_a_wrong_clock_is_found(ahead_ms: dict[int, int], health: Health, said: str) -> None:
    """By the partitions that it has: nothing else says which host it is from where the doctor looks."""
    found = hosts_finding(ahead_ms)
    assert (found.health, said in found.text) == (health, True), found.text


ONE, OTHER = rules("one"), rules("one", 6)
POLICIES: list[tuple[Published, Policy | None, list[Fence], list[tuple[Health, str]]]] = [
    (Published(ONE, NOW_MS), None, [fence(ONE)], [("ok", "one is in force since Mon 23 Nov 2026")]),
    (Published(ONE, NOW_MS), ONE, [], [("ok", "one is in force")]),
    (Published(ONE, NOW_MS), OTHER, [], [("ok", "one"), ("warning", "SPENDFUSE_POLICY names here is another: one")]),
    (Published(ONE, NOW_MS), None, [fence(OTHER)], [("ok", "one"), ("warning", "some partitions still follows one")]),
    (Published(ONE, NOW_MS, "line 3"), None, [], [("wrong", "is refused: line 3"), ("ok", "one is in force")]),
    (Published(), None, [], [("warning", "policy.v1 is empty: worker and alerting each take their own")]),
    (Published(), ONE, [fence(ONE)], [("warning", "(the file's here is one)")]),
    (Published(), ONE, [fence(OTHER)], [("warning", "(the file's here is one)"), ("warning", "still follows one")]),
]


@pytest.mark.parametrize(("published", "file", "fences", "said"), POLICIES)
def test_who_follows_which_policy(
    published: Published, file: Policy | None, fences: list[Fence], said: list[tuple[Health, str]]
) -> None:
    """Worker, alerting and file under other rules is said, and so is a newest record that nobody can follow."""
    found = list(policy_findings(published, file, fences))
    assert [each.health for each in found] == [health for health, _ in said]
    assert [text for each, (_, text) in zip(found, said, strict=True) if text not in each.text] == []


class PolicyRecord:
    """A record of policy.v1."""

    def __init__(self, value: bytes | None, key: bytes = b"default") -> None:
        self._key, self._value = key, value

    def key(self) -> bytes:
        """Which policy."""
        return self._key

    def value(self) -> bytes | None:
        """Its rules."""
        return self._value

    def timestamp(self) -> tuple[int, int]:
        """When it was appended."""
        return 1, NOW_MS


def test_the_last_good_policy_is_in_force() -> None:
    """Garbage and deletions behind it are named; another key's policy is nobody's business."""
    records = [PolicyRecord(ONE.to_json()), PolicyRecord(b"{"), PolicyRecord(OTHER.to_json(), b"other")]
    found = published_policy(read_settings({}), records)
    assert found.policy is not None
    assert (found.policy.stamp, bool(found.refused)) == (ONE.stamp, True)
    assert published_policy(read_settings({}), [*records, PolicyRecord(OTHER.to_json())]).refused == ""
    assert published_policy(read_settings({}), [PolicyRecord(None)]).refused == "it is a deletion"


ANSWER = alert(state="resolved", evidence={"command_id": "c1", "cause_to_stop_ms": 26}, ts_ms=NOW_MS - HOUR_MS)
SILENT = alert("i2", evidence={"killed_by": "run-cost", "command_id": "c2"}, summary="It still makes calls.")
GUARDS: list[tuple[list[Command], list[Alert], Health, str]] = [
    ([], [], "ok", "nobody was killed within a day"),
    ([command()], [ANSWER], "ok", "1 of 1 kills within a day were answered, the last 1 h ago"),
    ([command("resume")], [ANSWER], "ok", "1 of 1 kills"),
    ([command(command_id="c2")], [ANSWER, SILENT], "wrong", "1 of 2 kills of the last day had no effect: It still"),
    ([command(command_id="c3")], [], "ok", "answers to them are not on alerts.v1"),
]


@pytest.mark.parametrize(("commands", "alerts", "health", "said"), GUARDS)
def test_what_kills_say_of_guards(commands: list[Command], alerts: list[Alert], health: Health, said: str) -> None:
    """Guards that answered are alive; one that calls on is wrong; of one that was never asked nothing is known."""
    found = guards_finding(commands, alerts, NOW_MS)
    assert (found.health, said in found.text) == (health, True), found.text


def test_keys_are_shown_by_their_public_half() -> None:
    """Enough to tell one from another, and nothing that anybody could use."""
    settings = read_settings({"SPENDFUSE_ENGINE_KEY": ENGINE, "SPENDFUSE_OPERATOR_KEY": OPERATOR})
    shown = "; ".join(key_ids(settings))
    assert OperatorKey(OPERATOR.encode()).public_key.hex()[:8] in shown
    assert [secret for secret in (ENGINE, OPERATOR) if secret in shown] == []


def test_a_finding_fits_a_terminal() -> None:
    """Whatever it says, and in its own columns."""
    assert lines("lag", Finding("warning", "much", "wait")) == ["warning  lag      much", "                  → wait"]
    long: list[Any] = lines("topics", Finding("wrong", "\x1b" + "x" * 900, "word " * 200))
    assert max(map(len, long)) <= 80
    assert len(long) <= 8


@pytest.fixture
def broker(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> EmbeddedBroker:
    """A broker without topics, for the command."""
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", embedded.bootstrap)
    return embedded


def test_looking_makes_no_topic(broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty cluster is wrong, and as empty afterwards, although this broker makes topics that somebody asks for."""
    assert main(["doctor"]) == 1
    assert "wrong    topics   missing" in capsys.readouterr().out
    for words in ("why r1", "incidents", "dlq"):
        assert main(words.split()) == 4
        assert "topics are missing" in capsys.readouterr().err
    assert AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).topics == {}


def test_a_broker_that_cannot_say_is_no_fault_of_ours(
    broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the embedded broker does not know is said to be not known, and the rest is looked at."""
    broker.create_topics("", 2)
    monkeypatch.setenv("SPENDFUSE_METRICS_PORTS", "1")
    monkeypatch.setattr("streams.kafka.topics.REQUEST_TIMEOUT_S", 1)
    main(["doctor"])
    said = capsys.readouterr().out
    assert "not known: this broker cannot say" in said
    assert "ok       keys" in said
    assert "SPENDFUSE_METRICS_PORTS" in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(("other_key", "is_told"), [(ENGINE, True), ("another root key of an engine, in tests", False)])
def test_another_installation_with_the_same_key_is_told(
    broker: EmbeddedBroker,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    other_key: str,
    is_told: bool,
) -> None:
    """A command does not name its installation: one of another's with the same engine key would be obeyed here."""
    for prefix in ("prod.", "test."):
        broker.create_topics(prefix, 2)
    check = Records(read_settings({"SPENDFUSE_ENGINE_KEY": other_key})).key_check("acme")
    assert check is not None
    produce(broker.bootstrap, "test.control.v1", [Record(check.value, check.key, tuple(check.headers or ()))])
    monkeypatch.setenv("SPENDFUSE_PREFIX", "prod.")
    monkeypatch.setenv("SPENDFUSE_ENGINE_KEY", ENGINE)
    monkeypatch.setattr("streams.kafka.topics.REQUEST_TIMEOUT_S", 1)
    main(["doctor"])
    said = " ".join(capsys.readouterr().out.split())
    assert ("the workers under the prefix 'test.' sign with this engine key as well" in said) == is_told


def test_a_broker_that_is_away_is_code_4(
    broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each of the four, with the address, and no more than a sentence."""
    monkeypatch.setattr("streams.kafka.admin.REQUEST_TIMEOUT_S", 1)
    broker.take_down()
    for words in ("doctor", "why r1", "incidents", "dlq"):
        assert main(words.split()) == 4
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"spendfuse: no broker answers at {broker.bootstrap}")
        assert "where the cluster asks for a login" in line


def test_a_right_is_named_only_where_one_is_missing() -> None:
    """A new cluster that cannot say yet who is in a group is no matter of rights."""
    assert "infra.kafka.access reader" in advice(KafkaError.GROUP_AUTHORIZATION_FAILED)
    assert advice(KafkaError.COORDINATOR_NOT_AVAILABLE).startswith("look again")
    assert advice(KafkaError.UNKNOWN) == ""
