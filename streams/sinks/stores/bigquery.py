"""BigQuery: rows by the Storage Write API, each table in a committed stream of its own with offsets, so that what the
client repeats is written once. What a sink writes again after it has died is one row to whoever reads: the plain names
are views by key.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import grpc
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPIError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from streams.sinks.stores.base import Identity, Moves, Place, check_version, escaped, faults_of, schema_of
from streams.sinks.tables import MIGRATIONS, OFFSETS, TABLES, VERSION, Columns, Kind, Row, Rows, Table
from streams.sinks.views import OF_A_TENANT, VIEWS

META: Final = "sink_meta"
ROWS: Final = "_rows"
"""After the name of a table: all that was appended. The plain name is the view without what was appended again."""
ROWS_A_REQUEST: Final = 1000
EPOCH: Final = date(1970, 1, 1)
_TYPES: Final[Mapping[Kind, str]] = {
    "text": "STRING", "int": "INT64", "real": "FLOAT64", "bool": "BOOL", "day": "DATE", "json": "STRING",
}  # fmt: skip
_WIRE: Final[Mapping[Kind, Any]] = {
    "text": FieldDescriptorProto.TYPE_STRING, "int": FieldDescriptorProto.TYPE_INT64,
    "real": FieldDescriptorProto.TYPE_DOUBLE, "bool": FieldDescriptorProto.TYPE_BOOL,
    "day": FieldDescriptorProto.TYPE_INT32, "json": FieldDescriptorProto.TYPE_STRING,
}  # fmt: skip
_OFFSETS: Final[Columns] = {"topic": "text", "kafka_partition": "int", "next_offset": "int"}


class BigQuery:
    """A dataset of a project. With `?rest=http://…&grpc=HOST:PORT` in the address, an emulator's."""

    is_transactional: Final = False

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._project, self._dataset = parts.netloc, parts.path.strip("/")
        self._emulator = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.name = f"bigquery://{self._project}/{self._dataset}"
        self._open: bigquery.Client | None = None
        self._writer: BigQueryWriteClient | None = None
        self._streams: dict[str, _Stream] = {}

    def prepare(self, source: str) -> Identity:
        with self._faults():
            self._client().create_dataset(self._dataset, exists_ok=True)
            self._make(META, {"name": "text", "value": "text"})
            self._make(OFFSETS, _OFFSETS)
            known = dict(self._ask(f"select name, max(value) from {META} group by name"))
            version = int(known.get("version", 0))
            check_version(version, self.name)
            for migration in MIGRATIONS[version:]:
                for name, columns in migration.columns.items():
                    self._make(f"{name}{ROWS}", columns, has_months="day" in columns)
                    for column, kind in columns.items():
                        self._ask(f"alter table {name}{ROWS} add column if not exists {column} {_TYPES[kind]}")
            if version < VERSION:
                self._make_views()
                known = {"store_id": uuid.uuid4().hex, "source": source} | known | {"version": f"{VERSION:06}"}
                said = ", ".join(f"({escaped(name)}, {escaped(value)})" for name, value in known.items())
                self._ask(f"insert into {META} (name, value) values {said}")
        return Identity(known["store_id"], known["source"])

    def offsets(self) -> dict[Place, int]:
        found = self.query(f"select topic, kafka_partition, max(next_offset) from {OFFSETS} group by 1, 2")
        return {(topic, number): offset for topic, number, offset in found}

    def write(self, rows: Rows, moves: Moves, before_commit: Callable[[], None] = lambda: None) -> None:
        with self._faults():
            try:
                for name, of_table in rows.items():
                    self._append(f"{name}{ROWS}", TABLES[name].columns, of_table)
                before_commit()
                reached: list[Row] = [(topic, number, move.after) for (topic, number), move in moves.items()]
                if reached:
                    self._append(OFFSETS, _OFFSETS, reached)
            except Exception:
                self._streams.clear()  # how far they were written is not known
                raise

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self._faults():
            return self._ask(sql)

    def literal(self, text: str) -> str:
        return escaped(text)

    def let_tenant_read(self, tenant_id: str) -> str:
        schema = schema_of(tenant_id)
        with self._faults():
            self._client().create_dataset(schema, exists_ok=True)
            for name in OF_A_TENANT:
                self._ask(
                    f"create or replace view {self._full(name, schema)} as "
                    f"select * from {self._full(name)} where tenant_id = {escaped(tenant_id)}"
                )
        return schema

    def rest(self) -> None:
        """A service has many users."""

    def close(self) -> None:
        self._streams.clear()
        if self._open is not None:
            self._open.close()
            self._open = None

    def _client(self) -> bigquery.Client:
        if self._open is None:
            job = bigquery.QueryJobConfig(default_dataset=f"{self._project}.{self._dataset}")
            if rest := self._emulator.get("rest"):
                self._open = bigquery.Client(
                    self._project, AnonymousCredentials(), client_options=ClientOptions(api_endpoint=rest),
                    default_query_job_config=job,
                )  # fmt: skip
            else:
                self._open = bigquery.Client(self._project, default_query_job_config=job)
        return self._open

    def _write_client(self) -> BigQueryWriteClient:
        if self._writer is None:
            if place := self._emulator.get("grpc"):
                channel = grpc.insecure_channel(place)
                self._writer = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))
            else:
                self._writer = BigQueryWriteClient()
        return self._writer

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self._client().query(sql).result()]

    def _append(self, name: str, columns: Columns, rows: list[Row]) -> None:
        stream = self._streams.get(name)
        if stream is None:
            table = self._write_client().table_path(self._project, self._dataset, name)
            stream = self._streams[name] = _Stream(self._write_client(), table, name, columns)
        stream.append(rows)

    def _make(self, name: str, columns: Columns, *, has_months: bool = False) -> None:
        fields = [bigquery.SchemaField(column, _TYPES[kind]) for column, kind in columns.items()]
        table = bigquery.Table(f"{self._project}.{self._dataset}.{name}", fields)
        if has_months:  # times come from outside: by day they could be more than a table may have
            table.time_partitioning = bigquery.TimePartitioning(bigquery.TimePartitioningType.MONTH, field="day")
        if "tenant_id" in columns:
            table.clustering_fields = ["tenant_id"]
        self._client().create_table(table, exists_ok=True)

    def _make_views(self) -> None:
        names = {name: self._full(name) for name in (*TABLES, *VIEWS)}
        for table in TABLES.values():
            self._ask(f"create or replace view {names[table.name]} as {self._each_once(table)}")
        for name, sql in VIEWS.items():
            self._ask(f"create or replace view {names[name]} as {sql.format_map(names)}")

    def _each_once(self, table: Table) -> str:
        key = ", ".join(table.identity)
        place = "kafka_offset" if "kafka_offset" in table.columns else table.key[0]
        order = f"{place} desc" if table.keeps == "newest" else place
        source = self._full(f"{table.name}{ROWS}")
        return (
            f"select * except (place) from (select *, row_number() over (partition by {key} order by {order}) as place "
            f"from {source}) where place = 1"
        )

    def _full(self, name: str, dataset: str | None = None) -> str:
        return f"`{self._project}.{dataset or self._dataset}.{name}`"

    def _faults(self) -> Any:
        return faults_of(self.name, GoogleAPIError, GoogleAuthError, grpc.RpcError, OSError)


def of_address(address: str) -> BigQuery:
    """The store at `bigquery://PROJECT/DATASET`, with the credentials that Google's client finds."""
    return BigQuery(address)


class _Stream:
    """A committed stream into one table."""

    def __init__(self, client: BigQueryWriteClient, table: str, name: str, columns: Columns) -> None:
        self._client = client
        self._columns = columns
        self._descriptor, self._message = _message_of(name, columns)
        made = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
        self._name = client.create_write_stream(parent=table, write_stream=made).name
        self._next = 0

    def append(self, rows: list[Row]) -> None:
        """Append rows at the offset that is known to be next."""
        for start in range(0, len(rows), ROWS_A_REQUEST):
            chunk = rows[start : start + ROWS_A_REQUEST]
            request = types.AppendRowsRequest(write_stream=self._name, offset=self._next)
            request.proto_rows = types.AppendRowsRequest.ProtoData(
                writer_schema=types.ProtoSchema(proto_descriptor=self._descriptor),
                rows=types.ProtoRows(serialized_rows=[self._serialized(row) for row in chunk]),
            )
            for answer in self._client.append_rows(iter([request])):
                if answer.error.code:
                    raise GoogleAPIError(answer.error.message)
            self._next += len(chunk)

    def _serialized(self, row: Row) -> bytes:
        return self._message(**dict(self._fields(row))).SerializeToString()

    def _fields(self, row: Row) -> Iterator[tuple[str, Any]]:
        for (name, kind), value in zip(self._columns.items(), row, strict=True):
            if value is not None:
                yield name, (date.fromisoformat(str(value)) - EPOCH).days if kind == "day" else value


def _message_of(name: str, columns: Columns) -> tuple[DescriptorProto, type[Message]]:
    """A table's row as a protobuf message."""
    described = DescriptorProto(name=name)
    for number, (column, kind) in enumerate(columns.items(), 1):
        described.field.add(
            name=column, number=number, type=_WIRE[kind], label=FieldDescriptorProto.LABEL_OPTIONAL
        )  # fmt: skip
    pool = DescriptorPool()
    file = FileDescriptorProto(name=f"{name}.proto", syntax="proto2")
    file.message_type.add().CopyFrom(described)
    pool.Add(file)
    return described, GetMessageClass(pool.FindMessageTypeByName(name))
