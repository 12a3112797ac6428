"""`topics apply` and `topics check` against a real broker."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it offers these names, but does not export them
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)

from infra.kafka.embedded import EmbeddedBroker
from schemas.duration import DAY_MS, HOUR_MS
from schemas.topics import load_topics, topic_name
from streams.__main__ import main
from streams.kafka.admin import await_leaders
from streams.kafka.client import Admin
from streams.kafka.topics import PartitionsRefusedError, apply, check, drifted
from streams.settings import Settings
from tests.support.kafka import RealKafka, Record, TopicSpace, delete_topics, fresh_prefix, produce, wait_until


@pytest.fixture
def admin(kafka: RealKafka) -> Admin:
    """An operator's client."""
    return Admin(Settings(kafka_bootstrap=kafka.bootstrap))


@pytest.fixture
def prefix(kafka: RealKafka) -> Iterator[str]:
    """A prefix under which there is nothing yet."""
    fresh = fresh_prefix()
    yield fresh
    delete_topics(kafka.bootstrap, fresh)


def set_config(admin: Admin, topic: str, setting: str, value: str) -> None:
    """Change one setting by hand, as somebody in a hurry would."""
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource], request_timeout=10).values():
        future.result(20)


def forget_records(admin: Admin, topic: str) -> None:
    """Somebody has the topic delete what is old, and all of it is."""
    set_config(admin, topic, "cleanup.policy", "delete")
    numbers = admin.list_topics(topic, timeout=10).topics[topic].partitions
    everything = [TopicPartition(topic, number, -1) for number in numbers]

    def is_forgotten() -> bool:
        """Not before the broker acts on the setting."""
        try:
            for future in admin.delete_records(everything).values():
                future.result(20)
        except KafkaException as refused:
            if refused.args[0].code() == KafkaError.POLICY_VIOLATION:
                return False
            raise
        return True

    wait_until(is_forgotten, 10, "the records are gone")


def create_topic(admin: Admin, name: str, partitions: int) -> None:
    """Make a topic by hand, with the broker's defaults; returns when clients see it."""
    admin.create_topics([NewTopic(name, partitions, 1)], request_timeout=10)[name].result(20)
    await_leaders(admin, [name])


def differences(admin: Admin, prefix: str, expected: list[str]) -> list[str]:
    """What `check` says once it says what is expected: settings reach the broker's answers a moment after a change."""
    wait_until(lambda: check(admin, prefix) == expected, 10, f"check says {expected}")
    return check(admin, prefix)


def test_after_apply_every_topic_is_as_declared(admin: Admin, prefix: str) -> None:
    """One command makes a broker ready, and check has nothing to say afterwards."""
    done = apply(admin, prefix, partitions=3, replication=1)
    assert set(done.created) == {topic_name(prefix, name) for name in load_topics()}
    assert check(admin, prefix) == []
    topics = admin.list_topics(timeout=10).topics
    counts = {name: len(topics[topic_name(prefix, name)].partitions) for name in load_topics()}
    assert counts == {name: spec.partition_count(3) for name, spec in load_topics().items()}


def test_applied_topics_can_be_written_at_once(admin: Admin, kafka: RealKafka, prefix: str) -> None:
    """Apply returns when there are leaders, not when the request was taken."""
    apply(admin, prefix, partitions=6, replication=1)
    for name in load_topics():
        sent = produce(kafka.bootstrap, topic_name(prefix, name), [Record(b"v", key=b"k")], idempotent=False)
        assert len(sent) == 1


def test_applying_twice_changes_nothing(admin: Admin, prefix: str) -> None:
    """A deployment may apply at every start."""
    apply(admin, prefix, partitions=2, replication=1)
    again = apply(admin, prefix, partitions=2, replication=1)
    assert (again.created, again.altered, again.left) == ((), (), ())


def test_check_before_apply_names_every_missing_topic(admin: Admin, prefix: str) -> None:
    """An empty broker reads as nine missing topics, not as an error."""
    assert check(admin, prefix) == [f"{topic_name(prefix, name)}: missing" for name in load_topics()]


def test_a_changed_setting_is_reported_and_mended(admin: Admin, kafka_topics: TopicSpace) -> None:
    """Somebody shortened the retention of the source of truth: check says so, apply puts it back."""
    usage = kafka_topics.name("usage.v1")
    set_config(admin, usage, "retention.ms", "60000")
    line = f"{usage}: retention.ms is 60000, should be 3024000000"
    assert differences(admin, kafka_topics.prefix, [line]) == [line]
    assert apply(admin, kafka_topics.prefix, kafka_topics.partitions, 1).altered == (line,)
    assert differences(admin, kafka_topics.prefix, []) == []


def test_a_setting_that_no_file_declares_is_reported_and_taken_away(admin: Admin, kafka_topics: TopicSpace) -> None:
    """A deletion by age on the changelog would lose state, whoever put it there."""
    state = kafka_topics.name("state.v1")
    set_config(admin, state, "max.compaction.lag.ms", "1000")
    line = f"{state}: max.compaction.lag.ms is 1000, which no file declares"
    assert differences(admin, kafka_topics.prefix, [line]) == [line]
    apply(admin, kafka_topics.prefix, kafka_topics.partitions, 1)
    assert differences(admin, kafka_topics.prefix, []) == []


@pytest.mark.parametrize(
    ("topic", "setting", "value", "loses"),
    [
        ("control.v1", "cleanup.policy", "delete", True),
        ("usage.v1", "retention.ms", "60000", True),
        ("usage.v1", "retention.bytes", "1000", True),
        ("usage.v1", "retention.ms", "-1", False),
        ("state.v1", "max.message.bytes", "1000", False),
        ("state.v1", "min.insync.replicas", "2", False),
    ],
)
def test_a_setting_that_loses_records_is_told_from_others(
    admin: Admin, kafka_topics: TopicSpace, topic: str, setting: str, value: str, loses: bool
) -> None:
    """To delete what is needed still is worse than to keep too much, or to write nothing."""
    assert drifted(admin, kafka_topics.prefix) == []
    set_config(admin, kafka_topics.name(topic), setting, value)
    [found] = wait_until(lambda: drifted(admin, kafka_topics.prefix), 10, "the setting differs")
    assert (f"{setting} is {value}" in found.text, bool(found.effect)) == (True, loses)


def test_a_topic_that_went_missing_is_made_again(admin: Admin, kafka_topics: TopicSpace) -> None:
    """Apply makes what is missing beside what is there. Whoever saw it before knows that it was deleted; to somebody
    else it may be one that they have no right to see.
    """
    alerts = kafka_topics.name("alerts.v1")
    seen: set[str] = set()
    assert drifted(admin, kafka_topics.prefix, seen=seen) == []
    admin.delete_topics([alerts], request_timeout=10)[alerts].result(20)
    differences(admin, kafka_topics.prefix, [f"{alerts}: missing"])
    [gone] = drifted(admin, kafka_topics.prefix, seen=seen)
    assert (gone.text, bool(gone.effect)) == (f"{alerts}: missing", True)
    assert drifted(admin, kafka_topics.prefix) == []
    assert apply(admin, kafka_topics.prefix, kafka_topics.partitions, 1).created == (alerts,)
    assert check(admin, kafka_topics.prefix) == []


def test_another_partition_count_is_refused_whole(admin: Admin, prefix: str) -> None:
    """More partitions would part tenants from their state; nothing is created or changed beside the refusal."""
    create_topic(admin, topic_name(prefix, "usage.v1"), partitions=2)
    with pytest.raises(PartitionsRefusedError, match=r"usage\.v1 has 2 partitions, 5 were asked for") as refused:
        apply(admin, prefix, partitions=5, replication=1)
    assert "co-partitioned" in str(refused.value)
    missing = [line for line in check(admin, prefix) if line.endswith("missing")]
    assert len(missing) == len(load_topics()) - 1


def test_two_who_apply_at_once_agree(kafka: RealKafka, prefix: str) -> None:
    """Replicas of a service that start together all succeed, and each topic was made by exactly one of them."""
    admins = [Admin(Settings(kafka_bootstrap=kafka.bootstrap)) for _ in range(4)]
    with ThreadPoolExecutor(len(admins)) as pool:
        done = list(pool.map(lambda admin: apply(admin, prefix, partitions=2, replication=1), admins))
    made = sorted(name for each in done for name in each.created)
    assert made == [topic_name(prefix, name) for name in load_topics()]
    assert check(admins[0], prefix) == []


def test_unequal_co_partitioned_topics_are_reported(admin: Admin, prefix: str) -> None:
    """Inputs and changelog that do not fit together are named with their numbers."""
    create_topic(admin, topic_name(prefix, "usage.v1"), partitions=2)
    create_topic(admin, topic_name(prefix, "state.v1"), partitions=3)
    assert check(admin, prefix)[-1] == (
        "co-partitioned topics must have the same number of partitions, "
        f"but have: {topic_name(prefix, 'state.v1')} 3, {topic_name(prefix, 'usage.v1')} 2"
    )


def test_partitions_of_other_topics_are_left_and_said(admin: Admin, prefix: str) -> None:
    """Where nothing depends on the number, an older one stays and is mentioned."""
    create_topic(admin, topic_name(prefix, "rollups.v1"), partitions=2)
    done = apply(admin, prefix, partitions=3, replication=1)
    assert done.left == (f"{topic_name(prefix, 'rollups.v1')} has 2 partitions, a new one would get 3",)
    assert differences(admin, prefix, []) == []


@pytest.mark.parametrize(
    ("topic", "taken_ms", "refused_ms"),
    [("usage.v1", [0, -365 * DAY_MS], [HOUR_MS]), ("operator.v1", [0, -HOUR_MS // 3], [HOUR_MS, -HOUR_MS])],
)
def test_the_broker_refuses_a_record_from_another_time(
    kafka_topics: TopicSpace, topic: str, taken_ms: list[int], refused_ms: list[int]
) -> None:
    """The declared limits do what they are for: an hour ahead is refused; spend of last year is taken, and an order of
    an hour ago is not.
    """
    now_ms, name = int(time.time() * 1000), kafka_topics.name(topic)
    for away_ms in refused_ms:
        with pytest.raises(KafkaException) as refused:
            produce(kafka_topics.bootstrap, name, [Record(b"elsewhen", timestamp_ms=now_ms + away_ms)])
        assert refused.value.args[0].code() == KafkaError.INVALID_TIMESTAMP
    for away_ms in taken_ms:
        assert produce(kafka_topics.bootstrap, name, [Record(b"fine", timestamp_ms=now_ms + away_ms)])


def test_a_flood_of_small_records_is_taken_with_a_clients_defaults(kafka_topics: TopicSpace) -> None:
    """The batch limit is no trap: 20,000 records sent as fast as the client can all arrive."""
    records = [Record(b"%05d" % number + b"x" * 300, partition=0) for number in range(20_000)]
    acknowledged = produce(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), records)
    assert [each.offset for each in acknowledged] == list(range(20_000))


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`python -m streams topics …` under these settings; returns the exit code."""

    def run(action: str, bootstrap: str, **settings: object) -> int:
        for name, value in {"kafka_bootstrap": bootstrap, **settings}.items():
            monkeypatch.setenv(f"SPENDFUSE_{name.upper()}", str(value))
        return main(["topics", action])

    return run


def test_exit_codes_and_words(
    kafka: RealKafka, prefix: str, topics: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts read the code, people the lines."""
    assert topics("check", kafka.bootstrap, prefix=prefix) == 1
    assert f"{prefix}usage.v1: missing" in capsys.readouterr().out
    assert topics("apply", kafka.bootstrap, partitions=2) == 0
    assert f"created {prefix}usage.v1" in capsys.readouterr().out
    assert topics("check", kafka.bootstrap) == 0
    assert capsys.readouterr().out == "all topics are as declared\n"
    assert topics("apply", kafka.bootstrap, partitions=9) == 2
    assert "Nothing was changed." in capsys.readouterr().err


def test_too_few_brokers_for_the_copies_is_said(
    kafka: RealKafka, prefix: str, topics: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """More copies than brokers cannot be had: a wrong setting, so code 2, and the sentence names the topic."""
    assert topics("apply", kafka.bootstrap, prefix=prefix, partitions=1, replication=50) == 2
    assert f"did not create {prefix}alerts.v1" in capsys.readouterr().err


def test_an_unreachable_broker_is_exit_code_4(
    topics: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens there: one sentence and code 4, not a stack of errors and not an endless wait."""
    monkeypatch.setattr("streams.kafka.admin.REQUEST_TIMEOUT_S", 0.5)
    with EmbeddedBroker() as broker:
        address = broker.bootstrap
    assert (topics("check", address), topics("apply", address)) == (4, 4)
    assert capsys.readouterr().err.count(f"no broker answers at {address}") == 2


def test_a_broker_that_does_not_know_topic_settings_is_said(
    embedded: EmbeddedBroker,
    topics: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The embedded broker cannot describe topics: check ends with code 4 and a sentence instead of a false answer."""
    monkeypatch.setattr("streams.kafka.topics.REQUEST_TIMEOUT_S", 0.5)
    embedded.create_topics("", 2)
    assert topics("check", embedded.bootstrap) == 4
    assert "did not describe the settings of" in capsys.readouterr().err
