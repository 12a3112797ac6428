"""What every store of the wide event table must do, one suite over all four."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, get_args

import psycopg
import pytest

from schemas.codec import encode
from schemas.errors import SettingsError, StateError
from schemas.run import RunRecord
from schemas.usage import UsageMessage
from streams.settings import Settings
from streams.sinks import tables
from streams.sinks.prices import PolicyPrices
from streams.sinks.rows import Batch, Mapper, usage_columns
from streams.sinks.stores import base as stores_base
from streams.sinks.stores import open_store
from streams.sinks.stores.base import Move, MovedError, Store, StoreError
from streams.sinks.tables import MIGRATIONS, TABLES, VERSION, Migration
from streams.sinks.views import OF_A_TENANT
from tests.support.messages import DAY_MS, HOUR_MS, MONDAY_MS, USD, llm_call, run_started
from tests.support.question_week import FakePolicies, FakeRecord
from tests.support.stores import PostgresServer

SEED = 20_261_128
PLACE = ("usage.v1", 0)
LAST_MINUTE_MS = MONDAY_MS + DAY_MS - 60_000


class PowerCutError(Exception):
    """A sink dies."""


def cut() -> None:
    """Die between write and commit."""
    raise PowerCutError


@pytest.fixture
def mapper() -> Mapper:
    """Makes rows as the sink does."""
    prices = PolicyPrices(Settings(), FakePolicies())  # type: ignore[arg-type]  # a stand-in
    prices.refresh()
    return Mapper(Settings(), prices)


def batch_of(mapper: Mapper, first: int, *messages: Any, topic: str = "usage.v1") -> Batch:
    """Messages as a batch, the first of them at that offset."""
    batch = Batch()
    for offset, message in enumerate(messages, first):
        at_ms = message.ts_ms
        assert mapper.take(batch, topic, FakeRecord(encode(message), at_ms, offset)) is None
    return batch


def day_sums(store: Store) -> list[tuple[Any, ...]]:
    """Dollars by tenant and day."""
    rows = store.query("select tenant_id, day, cost_nanousd from spend_by_day order by tenant_id, day")
    return [(tenant, day.isoformat(), cost / USD) for tenant, day, cost in rows]


def run_of(at_ms: int, dollars: int, tenant_id: str = "acme") -> RunRecord:
    """A run as it stands."""
    return RunRecord(
        tenant_id=tenant_id, run_id="run-1", ts_ms=at_ms, state="live", started_ms=MONDAY_MS, last_ms=at_ms,
        cost_nanousd=dollars * USD, calls=1, tool_calls=0, retries=0, premium_calls=0, input_tokens=1, output_tokens=1,
    )  # fmt: skip


def test_what_is_written_again_counts_once(store: Store, mapper: Mapper) -> None:
    """A batch that overlaps what is there adds only what is new; an event with the id of another, sent again with
    another time, even across midnight, is the same event.
    """
    events = [llm_call(LAST_MINUTE_MS + number, usd=1, event_id=f"e{number}") for number in range(6)]
    store.write(batch_of(mapper, 0, *events[:4]).rows, {PLACE: Move(0, 4)})
    store.write(batch_of(mapper, 4, *events[2:]).rows, {PLACE: Move(4, 8)})
    again = [llm_call(LAST_MINUTE_MS + 2 * 60_000, usd=1, event_id=f"e{number}") for number in range(3)]
    store.write(batch_of(mapper, 8, *again).rows, {PLACE: Move(8, 11)})
    assert day_sums(store) == [("acme", "2026-11-23", 6)]
    assert store.query("select count(*) from events") == [(6,)]
    assert store.offsets() == {PLACE: 11}


def test_of_a_run_the_newest_record_stands(store: Store, mapper: Mapper) -> None:
    """Within a batch, over batches, and where an old one comes again."""
    records = [run_of(MONDAY_MS + number, number) for number in range(4)]
    store.write(batch_of(mapper, 0, records[0], records[1], topic="runs.v1").rows, {})
    store.write(batch_of(mapper, 2, records[2], records[3], topic="runs.v1").rows, {})
    store.write(batch_of(mapper, 1, records[1], topic="runs.v1").rows, {})
    assert store.query("select run_id, cost_nanousd from runs") == [("run-1", 3 * USD)]


def test_interrupted_twenty_times_between_write_and_commit_every_sum_is_right(address: str, mapper: Mapper) -> None:
    """At random places, with batches cut anew each time, as a sink has it that starts from the store's offsets."""
    random = Random(SEED)
    events = [
        llm_call(MONDAY_MS + random.randrange(3 * DAY_MS), usd=random.randrange(1, 9), event_id=f"e{number}",
                 tenant_id=random.choice(["acme", "globex"]))
        for number in range(120)
    ]  # fmt: skip
    log = [*events, *random.sample(events, 30)]
    random.shuffle(log)
    deaths = 0
    store = open_store(address)
    store.prepare("cluster/prefix.")
    while (start := store.offsets().get(PLACE, 0)) < len(log):
        end = min(len(log), start + random.randint(1, 12))
        dies = deaths < 20 and random.random() < 0.7
        batch = batch_of(mapper, start, *log[start:end])
        try:
            store.write(batch.rows, {PLACE: Move(start, end)}, cut if dies else lambda: None)
        except PowerCutError:
            deaths += 1
            store.close()
            store = open_store(address)
    assert deaths == 20, f"seed {SEED}"
    expected: Counter[str] = Counter()
    for event in events:
        expected[event.tenant_id] += event.cost_nanousd or 0
    found = store.query("select tenant_id, cast(sum(cost_nanousd) as bigint) from spend_by_day group by tenant_id")
    assert Counter(dict(found)) == expected, f"seed {SEED}"
    assert store.query("select count(*) from events") == [(len(events),)], f"seed {SEED}"
    store.close()


def test_rows_and_offsets_are_there_together_or_not_at_all(store: Store, mapper: Mapper) -> None:
    """A store with transactions refuses a batch whose place another sink has passed, whole; of one that is cut off it
    has nothing, and nothing of it has to be cleaned up.
    """
    if not store.is_transactional:
        pytest.skip("without transactions, rows are idempotent instead")
    first, second = llm_call(MONDAY_MS, usd=1), llm_call(MONDAY_MS, usd=2)
    store.write(batch_of(mapper, 0, first).rows, {PLACE: Move(0, 1)})
    for wrong in (Move(0, 1), Move(7, 8)):
        with pytest.raises(MovedError):
            store.write(batch_of(mapper, 1, second).rows, {PLACE: wrong})
    with pytest.raises(PowerCutError):
        store.write(batch_of(mapper, 1, second).rows, {PLACE: Move(1, 2)}, cut)
    assert day_sums(store) == [("acme", "2026-11-23", 1)]
    assert store.offsets() == {PLACE: 1}
    store.write(batch_of(mapper, 1, second).rows, {PLACE: Move(1, 2)})
    assert day_sums(store) == [("acme", "2026-11-23", 3)]


def test_the_tables_are_made_once_and_a_newer_store_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own id stays its own; tables of a later version are not touched, with exit code 3 and what to do."""
    made = store.prepare("another")
    assert made.source == "cluster/prefix."
    assert store.prepare("another") == made
    monkeypatch.setattr(stores_base, "VERSION", VERSION - 1)
    with pytest.raises(StateError, match="use the newer release") as refused:
        store.prepare("cluster/prefix.")
    assert refused.value.exit_code == 3


def test_a_migration_adds_columns_and_keeps_what_is_there(
    store: Store, mapper: Mapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store of the version before gets the new column, and old rows have nothing in it."""
    store.write(batch_of(mapper, 0, llm_call(MONDAY_MS, usd=1)).rows, {PLACE: Move(0, 1)})
    later = (*MIGRATIONS, Migration(VERSION + 1, {"events": {"novelty": "text"}}))
    homes = [kind.__module__ for kind in type(store).__mro__]
    home = next(one for one in homes if hasattr(sys.modules[one], "MIGRATIONS"))
    for name, value in (("MIGRATIONS", later), ("VERSION", VERSION + 1)):
        monkeypatch.setattr(sys.modules[home], name, value)
    monkeypatch.setattr(stores_base, "VERSION", VERSION + 1)
    store.prepare("cluster/prefix.")
    assert day_sums(store) == [("acme", "2026-11-23", 1)]
    assert store.query("select novelty from events") == [(None,)]


def test_every_field_of_usage_has_its_column() -> None:
    """A new field of a message needs a migration."""
    for kind in get_args(UsageMessage):
        assert usage_columns(kind) <= set(TABLES["events"].columns), kind


def test_tables_are_what_all_migrations_add_up_to() -> None:
    """Numbered without a gap, so that a store's version says which it still needs."""
    assert [one.number for one in MIGRATIONS] == list(range(1, VERSION + 1))
    assert tables.tables_at(VERSION) == TABLES


HOSTILE = ("it's", '"quoted"', "\\back\tslash\n", "'); drop table events; --", "\0nul", "Ünïcode 🔥", "x" * 250, "")


def test_names_from_outside_are_only_names(store: Store, mapper: Mapper) -> None:
    """Whatever characters they have, and however old the time is that comes with them. An empty one is one that nobody
    has set.
    """
    events = [
        llm_call(MONDAY_MS, usd=1, event_id=f"e{number}", workflow=name, model=name or "m", tags={name: name},
                 tenant_id=name[:100] or "acme")
        for number, name in enumerate(HOSTILE)
    ]  # fmt: skip
    old = llm_call(1_000_000_000_000, usd=1, event_id="old")
    store.write(batch_of(mapper, 0, *events, old).rows, {PLACE: Move(0, 9)})
    found = {name for (name,) in store.query("select workflow from events where event_id <> 'old'")}
    assert found == {name.replace("\0", "\ufffd") or None for name in HOSTILE}
    assert store.query("select day, is_too_late, cost_nanousd from events where event_id = 'old'")[0][1:] == (
        False,
        USD,
    )


def test_a_tenants_schema_holds_nothing_of_another(store: Store, mapper: Mapper) -> None:
    """Every view of it, and two tenants whose names differ in a character that no schema can have get one each."""
    tenants = ("acme-1", "acme_1", "globex")
    for number, tenant in enumerate(tenants):
        run = run_of(MONDAY_MS, number, tenant)
        started = run_started(MONDAY_MS, tenant_id=tenant, event_id=f"s{number}", owner=f"of {tenant}")
        call = llm_call(MONDAY_MS + HOUR_MS, usd=1 + number, tenant_id=tenant, event_id=f"e{number}")
        store.write(batch_of(mapper, 10 * number, started, call).rows, {})
        store.write(batch_of(mapper, number, run, topic="runs.v1").rows, {})
    schemas = [store.let_tenant_read(tenant) for tenant in tenants]
    assert len(set(schemas)) == 3
    for tenant, schema, dollars in zip(tenants, schemas, (1, 2, 3), strict=True):
        for name in OF_A_TENANT:
            assert {one for (one,) in store.query(f"select distinct tenant_id from {schema}.{name}")} <= {tenant}
        found = store.query(f"select owner, cost_nanousd from {schema}.calls")
        assert found == [(f"of {tenant}", dollars * USD)]
    assert store.let_tenant_read("globex") == schemas[2]


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Store]:
    """A Postgres store."""
    store = open_store(postgres.new_database())
    store.prepare("cluster/prefix.")
    yield store
    store.close()


def test_in_postgres_a_reader_of_one_tenant_can_read_no_other(
    database: Store, postgres: PostgresServer, mapper: Mapper
) -> None:
    """A role with the rights that the page grants reads its own rows; tables are refused, and so is a condition that
    would tell what is in rows of others.
    """
    events = [llm_call(MONDAY_MS, usd=1, tenant_id=tenant, event_id=tenant) for tenant in ("acme", "globex")]
    database.write(batch_of(mapper, 0, *events).rows, {})
    schema = database.let_tenant_read("acme")
    name = database.name.rsplit("/", 1)[1]
    with psycopg.connect(postgres.address(name), autocommit=True) as owner:
        owner.execute("drop role if exists acme_reader")
        owner.execute("create role acme_reader login")
        owner.execute(f"grant usage on schema {schema} to acme_reader")
        owner.execute(f"grant select on all tables in schema {schema} to acme_reader")
    with psycopg.connect(postgres.address(name, "acme_reader"), autocommit=True) as reader:
        assert reader.execute(f"select distinct tenant_id from {schema}.calls").fetchall() == [("acme",)]
        for table in ("events", "spend_by_day", "runs", "sink_meta"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"select * from public.{table}")
        spying = (
            "create function pg_temp.spy(text) returns bool language plpgsql cost 0.0000001 as "
            "$$begin raise notice 'saw %', $1; return true; end$$"
        )
        reader.execute(spying)
        seen: list[str] = []
        reader.add_notice_handler(lambda notice: seen.append(str(notice.message_primary)))
        reader.execute(f"select * from {schema}.events where pg_temp.spy(tenant_id)")
        assert set(seen) == {"saw acme"}
    with psycopg.connect(postgres.address(name), autocommit=True) as owner:
        owner.execute(f"drop schema {schema} cascade")
        owner.execute("drop role acme_reader")


def test_in_postgres_a_day_has_a_table_of_its_own(database: Store, mapper: Mapper) -> None:
    """Days long past share one: whoever invents times makes no tables."""
    today_ms = int(database.query("select (extract(epoch from now()) * 1000)::bigint")[0][0])
    events = [llm_call(at_ms, usd=1, event_id=str(at_ms)) for at_ms in (today_ms, 1_000_000_000_000, 1_100_000_000_000)]
    database.write(batch_of(mapper, 0, *events).rows, {})
    rows = database.query("select tableoid::regclass::text, count(*) from events group by 1 order by 1")
    assert [count for _, count in rows] == [1, 2]
    assert rows[1][0] == "events_other_days"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("mysql://somewhere", "there is no store mysql"),
        ("events.duckdb", "write duckdb:///FOLDER/FILE.duckdb"),
        ("duckdb:///", "names no file"),
    ],
)
def test_an_address_that_names_no_store_is_refused_with_those_there_are(address: str, said: str) -> None:
    """A setting that is wrong, not a store that is away."""
    with pytest.raises(SettingsError, match=said):
        open_store(address)


def test_a_store_that_is_not_there_is_an_error_with_its_name_and_without_its_password() -> None:
    """Exit code 4, as for a broker that is away."""
    store = open_store("postgresql://sink:geheim@127.0.0.1:1/nowhere")
    with pytest.raises(StoreError) as refused:
        store.prepare("cluster/prefix.")
    assert "postgresql://127.0.0.1/nowhere" in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("address", "extra", "library"),
    [
        ("clickhouse://h", "sink-clickhouse", "clickhouse_connect"),
        ("bigquery://p/d", "sink-bigquery", "google.cloud"),
    ],
)
def test_a_library_that_is_not_installed_is_said_with_how_to_get_it(
    address: str, extra: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra by its name, which there is."""
    store = f"streams.sinks.stores.{extra.removeprefix('sink-')}"
    for name in [name for name in sys.modules if name.startswith((library, store))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SettingsError, match=re.escape(f".[{extra}]")):
        open_store(address)
    assert f"{extra} = [" in (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
