"""usage.dlq.v1: what could not be read, or came too late to count, with the coordinates to find it again."""

from typing import Literal

import msgspec

Reason = Literal[
    "empty", "too_large", "not_json", "not_utf8", "too_deep", "unknown_type", "missing_field", "wrong_value",
    "bad_time", "wrong_tenant", "bad_signature", "foreign_name", "too_late",
]  # fmt: skip
"""Why a record was refused, or set aside; doubles as the metric's label."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that counts nowhere: where it stands, why, its hash, and its first 256 bytes (base64)."""

    topic: str
    partition: int
    offset: int
    key: str | None
    reason: Reason
    detail: str
    sha256: str
    size_bytes: int
    head_base64: str
    ts_ms: int
