"""ClickHouse: no transactions, so that all is idempotent. Rows with one key are one row to whoever reads, and offsets
are written after the rows that they are about: what is written again changes no sum.
"""

import uuid
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from streams.sinks.stores.base import Identity, Moves, Place, check_version, escaped, faults_of, schema_of
from streams.sinks.tables import MIGRATIONS, OFFSETS, TABLES, VERSION, Kind, Row, Rows, Table, tables_at
from streams.sinks.views import OF_A_TENANT, VIEWS

META: Final = "sink_meta"
ROWS: Final = "_rows"
"""After the name of a table: all that was inserted. The plain name is the view without what was inserted again."""
_TYPES: Final[Mapping[Kind, str]] = {
    "text": "String", "int": "Int64", "real": "Float64", "bool": "Bool", "day": "Date32", "json": "String",
}  # fmt: skip
_READ: Final = "settings cast_keep_nullable = 1, prefer_column_name_to_alias = 1, join_use_nulls = 1"
"""What a view is read with: an empty sum is null, and a name means the column."""


class ClickHouse:
    """A database of a server; with an address `chdb:///FOLDER`, one inside this process."""

    is_transactional: Final = False

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.name = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        self._address = address
        self._open: Client | None = None

    def prepare(self, source: str) -> Identity:
        with self._faults():
            self._command(
                f"create table if not exists {META} (name String, value String, at UInt64) "
                "engine = ReplacingMergeTree(at) order by name"
            )
            self._command(
                f"create table if not exists {OFFSETS} (topic String, kafka_partition Int32, next_offset Int64) "
                "engine = ReplacingMergeTree(next_offset) order by (topic, kafka_partition)"
            )
            known = dict(self._ask(f"select name, value from {META} final"))
            version = int(known.get("version", 0))
            check_version(version, self.name)
            for migration in MIGRATIONS[version:]:
                for name, columns in migration.columns.items():
                    if name not in tables_at(migration.number - 1):
                        self._command(_create(TABLES[name]._replace(columns=columns)))
                    for column, kind in columns.items():
                        added = f"{column} {_type(TABLES[name], column, kind)}"
                        self._command(f"alter table {name}{ROWS} add column if not exists {added}")
            if version < VERSION:
                self._make_views()
                known = {"store_id": uuid.uuid4().hex, "source": source} | known | {"version": str(VERSION)}
                said = [(name, value, VERSION) for name, value in known.items()]
                self._client().insert(META, said, column_names=["name", "value", "at"])
        return Identity(known["store_id"], known["source"])

    def offsets(self) -> dict[Place, int]:
        found = self.query(f"select topic, kafka_partition, next_offset from {OFFSETS} final")
        return {(topic, number): offset for topic, number, offset in found}

    def write(self, rows: Rows, moves: Moves, before_commit: Callable[[], None] = lambda: None) -> None:
        with self._faults():
            for name, of_table in rows.items():
                table = TABLES[name]
                self._client().insert(f"{name}{ROWS}", _with_dates(table, of_table), column_names=list(table.names))
            before_commit()
            reached = [(topic, number, move.after) for (topic, number), move in moves.items()]
            if reached:
                self._client().insert(OFFSETS, reached, column_names=["topic", "kafka_partition", "next_offset"])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self._faults():
            return self._ask(sql)

    def literal(self, text: str) -> str:
        return escaped(text)

    def let_tenant_read(self, tenant_id: str) -> str:
        schema = schema_of(tenant_id)
        with self._faults():
            self._command(f"drop database if exists {schema}")
            self._command(f"create database {schema}")
            home = self._ask("select currentDatabase()")[0][0]
            for name in OF_A_TENANT:
                # With the rights of whoever made it: who may read the view needs none to the tables behind it.
                self._command(
                    f"create view {schema}.{name} definer = current_user sql security definer as "
                    f"select * from {home}.{name} where tenant_id = {escaped(tenant_id)}"
                )
        return schema

    def rest(self) -> None:
        """A server has many users."""

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _client(self) -> Client:
        if self._open is None:
            self._open = clickhouse_connect.get_client(dsn=self._address)
        return self._open

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self._client().query(sql).result_rows)

    def _command(self, sql: str) -> None:
        self._client().command(sql)

    def _faults(self) -> Any:
        return faults_of(self.name, ClickHouseError, HTTPError, OSError)

    def _make_views(self) -> None:
        names = {name: name for name in (*TABLES, *VIEWS)}
        for name in TABLES:
            self._command(f"create or replace view {name} as select * from {name}{ROWS} final")
        for name, sql in VIEWS.items():
            self._command(f"create or replace view {name} as {sql.format_map(names)} {_READ}")


def of_address(address: str) -> ClickHouse:
    """The store at `clickhouse://…`, spoken to over HTTP."""
    return ClickHouse(address)


def _create(table: Table) -> str:
    columns = [f"{name} {_type(table, name, kind)}" for name, kind in table.columns.items()]
    version = "kafka_offset" if table.keeps == "newest" else ""
    if table.keeps == "first" and "kafka_offset" in table.columns:
        columns.append("first_wins Int64 materialized -assumeNotNull(kafka_offset)")
        version = "first_wins"
    return (
        f"create table if not exists {table.name}{ROWS} ({', '.join(columns)}) "
        f"engine = ReplacingMergeTree({version}) order by ({', '.join(table.identity)})"
    )


def _type(table: Table, column: str, kind: Kind) -> str:
    is_plain = column in (*table.key, "kafka_offset")
    return _TYPES[kind] if is_plain else f"Nullable({_TYPES[kind]})"


def _with_dates(table: Table, rows: list[Row]) -> list[list[Any]]:
    days = [place for place, kind in enumerate(table.columns.values()) if kind == "day"]
    made = [list[Any](row) for row in rows]
    for row in made:
        for place in days:
            row[place] = None if row[place] is None else date.fromisoformat(row[place])
    return made
