"""What stores with SQL and transactions have in common: tables, migrations, offsets, upserts, views."""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from streams.sinks.stores.base import Identity, MovedError, Moves, Place, check_version, quoted, schema_of
from streams.sinks.tables import MIGRATIONS, OFFSETS, TABLES, VERSION, Kind, Rows, Table, tables_at
from streams.sinks.views import OF_A_TENANT, VIEWS

META: Final = "sink_meta"
INCOMING: Final = "incoming_"
"""Before the name of a table: rows that were brought there, to be inserted from."""
NEIGHBOURS: Final = 1
"""An event id that is known of the day before or after is the same event, sent again with another time."""


class SqlStore(ABC):
    """A store that SQL makes, fills and asks."""

    name: str
    types: Mapping[Kind, str]
    is_transactional: Final = True

    @abstractmethod
    def transaction(self) -> AbstractContextManager[object]:
        """All that is executed within the block happens, or nothing. Raises `StoreError`."""

    @abstractmethod
    def execute(self, sql: str) -> int:
        """Execute one statement, within a transaction; returns how many rows it changed."""

    @abstractmethod
    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask one question, within a transaction."""

    @abstractmethod
    def bring(self, table: Table, rows: list[Any]) -> None:
        """Bring rows to where `incoming(table)` selects them from, within a transaction."""

    @abstractmethod
    def incoming(self, table: Table) -> str:
        """What to select from for the rows that were brought last."""

    def create_table(self, table: Table) -> str:
        """The statement that makes a table."""
        columns = ", ".join(f"{name} {self.types[kind]}" for name, kind in table.columns.items())
        return f"create table if not exists {table.name} ({columns}, primary key ({', '.join(table.key)}))"

    def prepare(self, source: str) -> Identity:
        with self.transaction():
            self.execute(f"create table if not exists {META} (name text primary key, value text not null)")
            self.execute(
                f"create table if not exists {OFFSETS} (topic text, kafka_partition int, next_offset bigint not null, "
                "primary key (topic, kafka_partition))"
            )
            known = self._meta()
            version = int(known.get("version", 0))
            check_version(version, self.name)
            for migration in MIGRATIONS[version:]:
                for name, columns in migration.columns.items():
                    if name not in tables_at(migration.number - 1):
                        self.execute(self.create_table(TABLES[name]._replace(columns=columns)))
                    for column, kind in columns.items():
                        self.execute(f"alter table {name} add column if not exists {column} {self.types[kind]}")
            if version < VERSION:
                self._make_views()
                known |= {"version": str(VERSION)}
                known = {"store_id": uuid.uuid4().hex, "source": source} | known
                for key, value in known.items():
                    self.execute(
                        f"insert into {META} values ({quoted(key)}, {quoted(value)}) "
                        "on conflict (name) do update set value = excluded.value"
                    )
        return Identity(known["store_id"], known["source"])

    def offsets(self) -> dict[Place, int]:
        with self.transaction():
            found = self.fetch(f"select topic, kafka_partition, next_offset from {OFFSETS}")
        return {(topic, number): offset for topic, number, offset in found}

    def write(self, rows: Rows, moves: Moves, before_commit: Callable[[], None] = lambda: None) -> None:
        self.make_room(rows)
        with self.transaction():
            for (topic, number), move in sorted(moves.items()):
                self._move(topic, number, move.before, move.after)
            for name, of_table in rows.items():
                self.bring(TABLES[name], of_table)
                self.execute(self._insert(TABLES[name], of_table))
            before_commit()

    def make_room(self, rows: Rows) -> None:  # noqa: B027 - most have nothing to do
        """Do what has to be done in a transaction of its own before these rows can be written."""

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.transaction():
            return self.fetch(sql)

    def literal(self, text: str) -> str:
        return quoted(text)

    def let_tenant_read(self, tenant_id: str) -> str:
        schema = schema_of(tenant_id)
        with self.transaction():
            [(home,)] = self.fetch("select current_schema()")
            self.execute(f"drop schema if exists {schema} cascade")
            self.execute(f"create schema {schema}")
            for name in OF_A_TENANT:
                self.execute(self.tenant_view(f"{schema}.{name}", f"{home}.{name}", tenant_id))
        return schema

    def tenant_view(self, name: str, source: str, tenant_id: str) -> str:
        """The statement that makes the view of one tenant's rows."""
        return f"create view {name} as select * from {source} where tenant_id = {quoted(tenant_id)}"

    def _meta(self) -> dict[str, str]:
        return dict(self.fetch(f"select name, value from {META}"))

    def _make_views(self) -> None:
        for name in reversed(VIEWS):
            self.execute(f"drop view if exists {name} cascade")
        names = {name: name for name in (*TABLES, *VIEWS)}
        for name, sql in VIEWS.items():
            self.execute(f"create view {name} as {sql.format_map(names)}")

    def _move(self, topic: str, number: int, before: int, after: int) -> None:
        changed = self.execute(
            f"update {OFFSETS} set next_offset = {after} where topic = {quoted(topic)} "
            f"and kafka_partition = {number} and next_offset = {before}"
        )
        if not changed and not before:
            changed = self.execute(
                f"insert into {OFFSETS} values ({quoted(topic)}, {number}, {after}) on conflict do nothing"
            )
        if not changed:
            raise MovedError(f"{topic}/{number} is not at {before} any more")

    def _insert(self, table: Table, rows: list[Any]) -> str:
        columns = ", ".join(table.names)
        sql = f"insert into {table.name} ({columns}) select {columns} from {self.incoming(table)} n"
        if table.keeps == "newest":
            key = ", ".join(table.key)
            news = ", ".join(f"{name} = excluded.{name}" for name in table.names if name not in table.key)
            newer = f"excluded.kafka_offset > {table.name}.kafka_offset"
            return f"{sql} where true on conflict ({key}) do update set {news} where {newer}"
        if table.name == "events":
            sql += f" where not exists ({self._known_of_other_days(table, rows)})"
        else:
            sql += " where true"
        return f"{sql} on conflict do nothing"

    def _known_of_other_days(self, table: Table, rows: list[Any]) -> str:
        place = table.names.index("day")
        days = sorted({row[place] for row in rows})
        return (
            "select 1 from events e where e.tenant_id = n.tenant_id and e.event_id = n.event_id and e.day <> n.day "
            f"and e.day between date {quoted(days[0])} - {NEIGHBOURS} and date {quoted(days[-1])} + {NEIGHBOURS}"
        )
