"""The sink on a real broker: killed, raced and taken over, and still every sum is the log's."""

import json
import multiprocessing
import os
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from schemas.signing import is_key_check
from streams.__main__ import main
from streams.sinks.stores import open_store
from tests.integration.proof import flowing, small_load
from tests.support.kafka import TopicSpace, read_all, wait_until
from tests.support.load import Shape
from tests.support.service_process import ServiceProcess
from tests.support.sink_log import check_store, sums_in, sums_of_log, write_log
from tests.support.stores import PostgresServer
from tests.support.worker_process import WorkerProcess

SEED = 20_261_127
KILLS = 20
EVENTS = 2400
STAGES = ("taken", "written", "written", "committed")
"""Before the store has anything of a batch, with its rows written and nothing committed, and right after the commit."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["streams.sinks.process", "streams.sinks.stores.duckdb_file", "streams.sinks.stores.postgres"]
)


def _sink_once(variables: dict[str, str], to: str) -> None:
    os.environ.update(variables)
    raise SystemExit(main(["sink", "--to", to, "--once"]))


def sink_once(space: TopicSpace, to: str, **more: object) -> int:
    """Run a sink in a process of its own until all is written, or it dies; returns its exit code."""
    given = {"KAFKA_BOOTSTRAP": space.bootstrap, "PREFIX": space.prefix, **more}
    variables = {f"SPENDFUSE_{name}": str(value) for name, value in given.items()}
    process = _forks.Process(target=_sink_once, args=(variables, to))
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it did not end"
    return process.exitcode


def values_on(space: TopicSpace, topic: str) -> list[dict[str, Any]]:
    """What a topic holds, without key checks."""
    records = read_all(space.bootstrap, space.name(topic))
    return [json.loads(record.value or b"") for record in records if not is_key_check(record.key)]


def behind_s(sink: ServiceProcess) -> float:
    """For how long a sink has not come to where its topics ended, by its own word."""
    return sink.metric("spendfuse_sink_behind_seconds").get("", 0.0)


def events_in(file: Path) -> int:
    """How many events another process sees; none while it cannot see the file."""
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            [(found,)] = connection.execute("select count(*) from events").fetchall()
    except (duckdb.IOException, duckdb.CatalogException):
        return 0
    return int(found)


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The address of an empty database."""
    return postgres.new_database()


@pytest.fixture(params=["duckdb", "postgres", "clickhouse"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty store, as far as one can be killed here."""
    match request.param:
        case "duckdb":
            return f"duckdb:///{tmp_path}/events.duckdb"
        case "clickhouse":
            pytest.importorskip("chdb", reason="clickhouse: `make sink-tests` has an environment with it")
            return f"chdb://{tmp_path}/clickhouse"
    database: str = request.getfixturevalue("database")
    return database


def test_killed_between_write_and_commit_twenty_times_every_sum_is_the_logs(
    kafka_topics: TopicSpace, address: str
) -> None:
    """Whenever it dies, what was committed and where to go on from were committed together; and to read everything
    once more, as a sink that has lost a race does, changes nothing.
    """
    write_log(kafka_topics, EVENTS, SEED)
    random = Random(SEED)
    deaths: list[str] = []
    while len(deaths) < KILLS:
        at = f"{random.choice(STAGES)}:{random.randint(1, 2)}"
        code = sink_once(kafka_topics, address, KILL_AT=at, BATCH_RECORDS=80)
        assert code == -9, f"seed {SEED}: it was to die at {at} after {deaths}, and ended with {code}"
        deaths.append(at)
    assert sink_once(kafka_topics, address) == 0
    store = open_store(address)
    check_store(store, kafka_topics, f"seed {SEED}, deaths {deaths}")
    store.close()
    assert sink_once(kafka_topics, address) == 0
    check_store(store, kafka_topics, f"seed {SEED}, nothing new")
    store.close()


def test_two_sinks_share_one_store_and_one_dies_and_the_store_fails(
    kafka_topics: TopicSpace, database: str, postgres: PostgresServer
) -> None:
    """Partitions go from one to the other, one sink is killed and another comes, and the store is away for a while:
    each record is in the store once, and the process says at its health page what it waits for.
    """
    settings = {"KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "PREFIX": kafka_topics.prefix, "BATCH_RECORDS": 50,
                "UNHEALTHY_S": 1}  # fmt: skip
    arguments = ["streams", "sink", "--to", database]
    write_log(kafka_topics, 1000, SEED)
    with ServiceProcess(arguments, settings) as first:
        rows = "spendfuse_sink_rows_total"
        first.wait_for(lambda: first.metric(rows).get('table="events"', 0) > 0, 60, "rows of the first")
        with ServiceProcess(arguments, settings) as second:
            second.wait_said("partitions assigned")
            write_log(kafka_topics, 1000, SEED + 1, has_policy=True)
            second.wait_for(lambda: second.metric(rows).get('table="events"', 0) > 0, 60, "rows of the second")
            postgres.stop()
            first.kill()
            write_log(kafka_topics, 1000, SEED + 2, has_policy=True)
            second.wait_for(lambda: "the store has taken nothing" in second.health, 60, "the store is missed")
            second.wait_for(lambda: behind_s(second) > 2, 30, "it says that it falls behind")
            missed_s = behind_s(second)
            second.wait_said("partitions assigned", times=2)  # all of them, while nobody can say how far they were read
            postgres.start()
            second.wait_said("the store takes rows again")
            store = open_store(database)
            second.wait_for(lambda: sums_in(store) == sums_of_log(kafka_topics), 60, "all sums")
            second.wait_for(lambda: second.health == "ok", 30, "health")
            second.wait_for(lambda: behind_s(second) < missed_s, 30, "it says that it has come to the end")
            assert second.stop() == 0
    store.close()
    assert sink_once(kafka_topics, database) == 0  # what other topics still held than usage
    check_store(store, kafka_topics, f"seed {SEED}")
    store.close()


def test_what_the_worker_says_and_what_events_come_to_are_the_same(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """The engine's charges and ours are one: the hours that a real worker has added up come to what the events come
    to, tenant by tenant and day by day; its alerts and commands are in their tables, each once. While all that goes on,
    others can read the file.
    """
    load = small_load(tmp_path, Shape(2000, SEED, tenants=8, history_hours=20, busy_hours=2))
    file = tmp_path / "events.duckdb"
    address = f"duckdb:///{file}"
    settings = {"KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "PREFIX": kafka_topics.prefix, "POLICY": load.policy}
    with (
        ServiceProcess(["streams", "sink", "--to", address], settings) as sink,
        flowing(kafka_topics, load, 400) as flow,
        WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, load.policy, slot="0") as worker,
    ):
        wait_until(lambda: events_in(file) > 0, 60, "somebody else reads events")
        flow.finish()
        worker.wait_applied(flow.ends)
        assert worker.stop() == 0
        assert sink.stop() == 0
    assert sink_once(kafka_topics, address, POLICY=load.policy) == 0
    store = open_store(address)
    by_day = "select tenant_id, day, cost_nanousd, calls, tool_calls from {} order by 1, 2"
    of_events = store.query(by_day.format("spend_by_day"))
    assert of_events == store.query(by_day.format("spend_by_day_rolled_up"))
    assert sum(cost_nanousd for _, _, cost_nanousd, _, _ in of_events) > 0
    by_owner = "select cast(sum(cost_nanousd) as bigint) from breakdowns where dimension = 'owner'"
    assert store.query(by_owner) == store.query("select cast(sum(cost_nanousd) as bigint) from rollups")
    last = {(one["tenant_id"], one["run_id"]): one["cost_nanousd"] for one in values_on(kafka_topics, "runs.v1")}
    found = store.query("select tenant_id, run_id, cost_nanousd from runs")
    assert {(tenant, run): cost_nanousd for tenant, run, cost_nanousd in found} == last
    told = {one["alert_id"] for one in values_on(kafka_topics, "alerts.v1")}
    ordered = {one["command_id"] for one in values_on(kafka_topics, "control.v1")}
    assert {alert_id for (alert_id,) in store.query("select alert_id from alerts")} == told
    assert {command_id for (command_id,) in store.query("select command_id from commands")} == ordered
    assert told
    assert ordered
    assert last
    store.close()
