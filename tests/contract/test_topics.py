"""The topic files police themselves: what `schemas/topics/` declares is whole, legal and holds together."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas.topics import TopicFileError, TopicSpec, load_topics, topic_name
from tests.support.reviews import rollup

CONTRACT_KEYS = {
    "usage.v1": "tenant_id",
    "alerts.v1": "tenant_id",
    "control.v1": "tenant_id/target_type/target_id",
    "policy.v1": "policy name",
    "operator.v1": "tenant_id",
    # Not the tenant alone: compaction would keep one total per tenant (docs/decisions/0003).
    "rollups.v1": "tenant_id/workflow/start of the hour",
    "runs.v1": "tenant_id/run_id",
    "deliveries.v1": "alert id + receiver",
    "state.v1": "the engine's own row key",
    "spend.v1": "the tenant that stands for all",
    "usage.dlq.v1": "original key",
    "keys.v1": "id of the key",
    "enforcements.v1": "name of the enforcer",
    "cursors.v1": "source/tenant_id",
    "provider_usage.v1": "source/console/day/report/key/model/item, each part URL-quoted",
}
TELL_TIME = {"deliveries.v1", "state.v1"}
COMPACTED = {
    "control.v1", "policy.v1", "rollups.v1", "deliveries.v1", "state.v1", "keys.v1", "enforcements.v1", "cursors.v1",
    "provider_usage.v1", "runs.v1",
}  # fmt: skip
COMPONENTS = {
    "sdk", "gateway", "worker", "alerting", "enforcer", "reconciler", "console", "database sink", "weekly review",
    "poller", "operator command line",
}  # fmt: skip
OWNERS = {"detection", "alerting", "operations"}

DAY_MS = 24 * 60 * 60 * 1000
CLIENT_BATCH_BYTES = 1_000_000
"""What librdkafka puts into one batch by default (`batch.size`); Java clients stay below."""

TOPICS = load_topics()
EVERY_TOPIC = pytest.mark.parametrize("spec", TOPICS.values(), ids=TOPICS.keys())


def test_every_topic_of_the_contract_has_a_file_and_every_file_a_topic() -> None:
    """Nobody writes to a topic that is not declared, and no declaration is left over."""
    assert TOPICS.keys() == CONTRACT_KEYS.keys()


def test_keys_are_those_of_the_contract() -> None:
    """Keys decide partition and compaction, so other teams rely on them."""
    assert {name: spec.key for name, spec in TOPICS.items()} == CONTRACT_KEYS


def test_exactly_the_topics_of_the_contract_are_compacted() -> None:
    """A compacted topic forgets all but the last record of a key; the others keep each record for a time."""
    assert {name for name, spec in TOPICS.items() if spec.compacted} == COMPACTED


@EVERY_TOPIC
def test_retention_without_end_only_where_compacted(spec: TopicSpec) -> None:
    """A topic forgets by time, by key or by both: one that does neither fills the disk."""
    forgets_by_time = "delete" in spec.config["cleanup.policy"].split(",")
    assert (spec.retention_ms is None) == (not forgets_by_time)
    assert forgets_by_time or spec.compacted


@EVERY_TOPIC
def test_writers_readers_and_owner_are_known_parts(spec: TopicSpec) -> None:
    """Whoever changes a topic finds everyone it concerns, by names that mean something here."""
    assert {*spec.producers, *spec.consumers} <= COMPONENTS
    assert spec.owner in OWNERS


@EVERY_TOPIC
def test_names_carry_a_version_and_stay_legal_with_a_long_prefix(spec: TopicSpec) -> None:
    """A breaking change is a new topic, and an environment's prefix never makes a name illegal."""
    assert spec.name.rsplit(".", 1)[1].removeprefix("v").isdigit()
    assert topic_name("a-rather-long-environment-name.", spec.name).endswith(spec.name)


@EVERY_TOPIC
def test_a_full_batch_of_an_ordinary_client_fits(spec: TopicSpec) -> None:
    """Kafka's limit bounds batches: one below the client's batch size would refuse small records sent quickly."""
    assert spec.max_message_bytes > CLIENT_BATCH_BYTES


@EVERY_TOPIC
def test_record_times_are_the_producers(spec: TopicSpec) -> None:
    """A replayed log keeps its times, so the broker must not stamp its own; but where nobody replays anything, and a
    process asks with a record what time it is.
    """
    assert spec.config["message.timestamp.type"] == ("LogAppendTime" if spec.name in TELL_TIME else "CreateTime")


@EVERY_TOPIC
def test_more_copies_are_demanded_the_more_there_are(spec: TopicSpec) -> None:
    """An acknowledged record survives the loss of a broker where there are copies, and one copy still works."""
    demanded = [spec.broker_config(replication)["min.insync.replicas"] for replication in (1, 2, 3)]
    assert demanded == ["1", "1", "2"]
    assert spec.broker_config(3)["unclean.leader.election.enable"] == "false"


def test_what_one_process_reads_side_by_side_is_co_partitioned() -> None:
    """State of partition i is made from partition i of its inputs; what is told of it, from partition i of alerts and
    orders, and remembered in partition i of deliveries: so all have the same number.
    """
    group = {name for name, spec in TOPICS.items() if spec.partition_group == "tenant"}
    assert group == {"usage.v1", "operator.v1", "spend.v1", "state.v1", "alerts.v1", "deliveries.v1"}
    assert len({TOPICS[name].partition_count(12) for name in group}) == 1


def test_policies_have_one_partition() -> None:
    """All workers see policy changes in one order."""
    assert TOPICS["policy.v1"].partition_count(12) == 1


@pytest.mark.parametrize(("name", "before_ms"), [("usage.v1", 2**63 - 1), ("operator.v1", 1_800_000)])
def test_input_cannot_lie_in_the_future_and_spend_may_lie_in_the_past(name: str, before_ms: int) -> None:
    """One record from 2099 would make every later one late; a log from last year must be replayable. An old order must
    not: whoever copies it may not say that it was written then.
    """
    config = TOPICS[name].config
    assert config["message.timestamp.after.max.ms"] == "300000"
    assert config["message.timestamp.before.max.ms"] == str(before_ms)


def test_everything_needed_to_count_again_is_kept_equally_long() -> None:
    """State can be rebuilt from the inputs: a month of budgets, from both topics and not from one alone."""
    usage, operator = TOPICS["usage.v1"].retention_ms, TOPICS["operator.v1"].retention_ms
    assert usage == operator
    assert usage is not None
    assert usage >= (31 + 1) * DAY_MS


def test_every_total_has_a_key_of_its_own() -> None:
    """Compaction keeps the last rollup of each workflow and hour, and of what was booked for it in another hour,
    whatever characters the names hold.
    """
    names = ("a", "a/b", "b", "a%2Fb")
    hours = (0, 3_600_000)
    totals = [rollup(hour, tenant, workflow) for tenant in names for workflow in names for hour in hours]
    booked = [replace(total, booked_hour_ms=hour) for total in totals for hour in hours]
    assert len({total.key for total in (*totals, *booked)}) == len(names) ** 2 * 2 * 3


def test_dead_letters_wait_a_week_and_cannot_fill_the_disk() -> None:
    """There is time to look, and a flood of bad input has a ceiling. They go before their source does."""
    dead = TOPICS["usage.dlq.v1"]
    assert dead.retention_ms is not None
    assert 7 * DAY_MS <= dead.retention_ms < (TOPICS["usage.v1"].retention_ms or 0)
    assert 0 < int(dead.config["retention.bytes"]) <= 2**30


def test_state_rows_may_be_large() -> None:
    """A scope's history and a ring of event ids fit into one row."""
    assert TOPICS["state.v1"].max_message_bytes == 4 * 2**20


def test_an_illegal_prefix_is_refused_before_the_broker_sees_it() -> None:
    """The operator reads which name is wrong, not a protocol error."""
    with pytest.raises(ValueError, match=r"'über\.usage\.v1' is not a legal topic name"):
        topic_name("über.", "usage.v1")


def test_all_faults_of_all_files_are_reported_together(tmp_path: Path) -> None:
    """Somebody who mends a file sees everything that is wrong with it at once."""
    (tmp_path / "bad.v1.toml").write_text(
        'description = ""\nkey = "k"\nvalue = "v"\nproducers = []\nconsumers = ["worker"]\nowner = "detection"\n'
        'partitions = "many"\nretention = 5\n[config]\n"cleanup.policy" = "delete"\n"retention.ms" = "a week"\n'
        '"max.message.bytes" = 1\n"min.insync.replicas" = 2\n',
        encoding="utf-8",
    )
    (tmp_path / "broken.v1.toml").write_text("description =", encoding="utf-8")
    with pytest.raises(TopicFileError) as raised:
        load_topics(tmp_path)
    expected = [
        "bad.v1.toml: unknown entry 'retention'",
        "bad.v1.toml: 'description' must be text",
        "bad.v1.toml: 'producers' must be a list of names, at least one",
        "bad.v1.toml: 'partitions' must be one of tenant, spread, single",
        "bad.v1.toml: [config] lacks 'message.timestamp.type'",
        "bad.v1.toml: [config] 'min.insync.replicas' follows from the replication, leave it out",
        "bad.v1.toml: [config] 'retention.ms' must be a whole number",
    ]
    assert str(raised.value).splitlines()[:-1] == expected
    assert "broken.v1.toml: not TOML" in str(raised.value)


def test_a_folder_without_files_is_a_fault(tmp_path: Path) -> None:
    """A checkout without its data files must not look like a service without topics."""
    with pytest.raises(TopicFileError, match="holds no topic files"):
        load_topics(tmp_path)
