"""A DuckDB file: the default, no server. One process has it at a time, so that it is let go whenever there is rest."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from schemas.errors import SettingsError
from streams.clock import pause, seconds
from streams.sinks.stores.base import Identity, StoreError, faults_of
from streams.sinks.stores.sql import SqlStore
from streams.sinks.tables import Kind, Row, Table

PATIENCE_S: Final = 60.0
"""How long somebody who reads the file may keep it before writing is given up, to be tried again."""
ASK_AGAIN_S: Final = 0.1
_BESIDE_TEXT: Final[Mapping[Kind, str]] = {"int": "BIGINT", "real": "DOUBLE", "bool": "BOOLEAN", "day": "DATE"}
_encode: Final = msgspec.json.Encoder().encode_lines


class DuckDbFile(SqlStore):
    """A file with everything in it."""

    types: Mapping[Kind, str] = {**_BESIDE_TEXT, "text": "VARCHAR", "json": "JSON"}

    def __init__(self, path: Path) -> None:
        self.name = f"duckdb:///{path}"
        self._path = path
        self._may_make = False
        """Whether a file that is not there is to be made: who only asks would make an empty one of a misspelt name."""
        self._open: duckdb.DuckDBPyConnection | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="spendfuse-sink-")

    def prepare(self, source: str) -> Identity:
        self._may_make = True
        return super().prepare(source)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with faults_of(self.name, duckdb.Error):
            connection = self._connection()
            connection.begin()
            try:
                yield
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def execute(self, sql: str) -> int:
        answer = self._connection().execute(sql).fetchone()
        return int(answer[0]) if answer and isinstance(answer[0], int) else 0

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection().execute(sql).fetchall()

    def bring(self, table: Table, rows: list[Row]) -> None:
        names = table.names
        self._file(table).write_bytes(_encode([dict(zip(names, row, strict=True)) for row in rows]))

    def incoming(self, table: Table) -> str:
        columns = ", ".join(f"{name}: '{_BESIDE_TEXT.get(kind, 'VARCHAR')}'" for name, kind in table.columns.items())
        return f"read_json('{self._file(table)}', format = 'newline_delimited', columns = {{{columns}}})"

    def rest(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def close(self) -> None:
        self.rest()
        self._folder.cleanup()

    def _file(self, table: Table) -> Path:
        return Path(self._folder.name) / f"{table.name}.ndjson"

    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._open is None:
            self._open = self._connect()
        return self._open

    def _connect(self) -> duckdb.DuckDBPyConnection:
        if not self._may_make and not self._path.exists():
            raise SettingsError(f"{self.name}: there is no such file; `python -m streams sink --to` makes it")
        deadline = seconds() + PATIENCE_S
        while True:
            try:
                return duckdb.connect(str(self._path), config={"preserve_insertion_order": False})
            except duckdb.IOException as error:
                if "lock" not in str(error):
                    raise SettingsError(f"{self.name} cannot be opened: {error}") from None
                if seconds() > deadline:
                    raise StoreError(
                        f"{self.name} is in use by another process. A DuckDB file has one user at a time while it is "
                        f"written: end whoever reads it, or use Postgres. {error}"
                    ) from None
            pause(ASK_AGAIN_S)
