"""Postgres: events cut into a table a day, rows copied into a temporary table and inserted from there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any, Final

import psycopg
from psycopg import sql as composed

from streams.sinks.stores.base import StoreError, faults_of, quoted
from streams.sinks.stores.sql import INCOMING, SqlStore
from streams.sinks.tables import TABLES, Kind, Row, Rows, Table

ANSWER_S: Final = 10
OLDEST_DAYS: Final = 60
"""Days further back than that have no table of their own, but one together: times come from outside."""
LOCK: Final = 5_712_906_341
"""Whoever makes tables holds this advisory lock."""


class Postgres(SqlStore):
    """A database with everything in its schema `public`, or wherever the search path of the login leads."""

    types: Mapping[Kind, str] = {
        "text": "text", "int": "bigint", "real": "double precision", "bool": "boolean", "day": "date", "json": "jsonb",
    }  # fmt: skip

    def __init__(self, address: str) -> None:
        self._address = address
        with faults_of("the address of the store", psycopg.Error):
            known = psycopg.conninfo.conninfo_to_dict(address)
        self.name = f"postgresql://{known.get('host', '')}/{known.get('dbname', '')}"
        self._open: psycopg.Connection[tuple[Any, ...]] | None = None
        self._days: set[str] = set()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            with faults_of(self.name, psycopg.Error), self._connection().transaction():
                yield
        except StoreError:
            self.rest()  # what broke off once is opened anew
            raise

    def execute(self, sql: str) -> int:
        return self._connection().execute(composed.SQL(sql)).rowcount

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection().execute(composed.SQL(sql)).fetchall()

    def create_table(self, table: Table) -> str:
        statement = super().create_table(table)
        if not table.has_days:
            return statement
        return f"{statement} partition by range (day)"

    def prepare(self, source: str) -> Any:
        with self.transaction():
            self.execute(f"select pg_advisory_xact_lock({LOCK})")
            found = super().prepare(source)
            for table in TABLES.values():
                if table.has_days:
                    self.execute(
                        f"create table if not exists {table.name}_other_days partition of {table.name} default"
                    )
        return found

    def make_room(self, rows: Rows) -> None:
        for name, of_table in rows.items():
            table = TABLES[name]
            if table.has_days:
                place = table.names.index("day")
                for day in sorted({str(row[place]) for row in of_table} - self._days):
                    self._make_day(table, day)

    def bring(self, table: Table, rows: list[Row]) -> None:
        connection = self._connection()
        self.execute(
            f"create temporary table if not exists {INCOMING}{table.name} (like {table.name}) on commit delete rows"
        )
        columns = ", ".join(table.names)
        with connection.cursor().copy(f"copy {INCOMING}{table.name} ({columns}) from stdin") as copy:
            for row in rows:
                copy.write_row(row)

    def incoming(self, table: Table) -> str:
        return f"{INCOMING}{table.name}"

    def tenant_view(self, name: str, source: str, tenant_id: str) -> str:
        made = super().tenant_view(name, source, tenant_id)
        # Or a condition of whoever asks could be tried on rows of others before they are left out.
        return made.replace(" as select", " with (security_barrier) as select", 1)

    def rest(self) -> None:
        """Its server has many users: the connection stays open, unless it is broken."""
        if self._open is not None and self._open.broken:
            self._open = None

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _connection(self) -> "psycopg.Connection[tuple[Any, ...]]":
        if self._open is None or self._open.closed:
            self._open = psycopg.connect(
                self._address, autocommit=True, connect_timeout=ANSWER_S, application_name="spendfuse-sink"
            )
        return self._open

    def _make_day(self, table: Table, day: str) -> None:
        first = date.fromisoformat(day)
        today = self.query("select (now() at time zone 'utc')::date")[0][0]
        if today - first <= timedelta(days=OLDEST_DAYS):
            until = quoted((first + timedelta(days=1)).isoformat())
            try:
                with self.transaction():
                    self.execute(f"select pg_advisory_xact_lock({LOCK})")
                    self.execute(
                        f"create table if not exists {table.name}_{first:%Y%m%d} partition of {table.name} "
                        f"for values from ({quoted(day)}) to ({until})"
                    )
            except StoreError as error:
                if not isinstance(error.__cause__, psycopg.errors.CheckViolation):
                    raise  # else the table of other days has rows of this one already, where its others go as well
        self._days.add(day)
