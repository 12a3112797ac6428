"""`POST /v1/logs`: what coding agents log of each call. Every other log record is passed over."""

from collections.abc import Callable
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from schemas.edge.access_key import AccessKey
from schemas.errors import Undecodable
from streams.gateway.sources.batch import Batch, Rejected
from streams.gateway.sources.coding_agents import claude_code, codex, gemini_cli
from streams.gateway.sources.otlp.answers import is_json, problem, taken
from streams.gateway.sources.otlp.log import Log, read_json, read_protobuf
from streams.gateway.sources.source import Headers, Source
from streams.gateway.sources.usage_item import usage_item

AGENTS: Final[tuple[Callable[[Log], dict[str, Any] | None], ...]] = (
    claude_code.of_log, codex.of_log, gemini_cli.of_log,
)  # fmt: skip
"""From a log record to the members of a usage.v1 message, without its tenant; None where it is not the agent's own, or
says nothing of spend.
"""


def read_logs(headers: Headers, body: bytes, key: AccessKey) -> Batch:
    """Check each log record. Raises `Unreadable`."""
    logs = read_json(body) if is_json(headers) else read_protobuf(body)
    batch = Batch()
    for place, log in enumerate(logs):
        members = next((found for of_log in AGENTS if (found := of_log(log)) is not None), None)
        if members is None:
            batch.ignored += 1
            continue
        try:
            batch.items.append(usage_item(members, key.tenant_id))
        except Undecodable as fault:
            batch.rejected.append(Rejected(place, fault.reason, fault.detail, b""))
    return batch


LOGS: Final = Source(
    "otlp-logs", read_logs, taken(ExportLogsServiceResponse, "rejectedLogRecords", "rejected_log_records"), problem
)
