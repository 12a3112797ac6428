"""Who said it: signatures over commands, in the headers of their records.

Two keys, because the engine may stop agents on its own and only a person may let a killed one go on. Both derive per
tenant, so that an agent's keys are of no use against another tenant.
"""

import hashlib
import hmac
from typing import Literal
from urllib.parse import quote

from spendfuse._command import Command, ControlRecord

KID_HEADER = "spendfuse-kid"
SIGNATURE_HEADER = "spendfuse-signature"

KeyId = Literal["engine", "operator"]


def derive_tenant_key(root: bytes, tenant_id: str) -> bytes:
    """Return the tenant's 32-byte key under a root key, which stays with the service."""
    return hmac.new(root, b"control|" + tenant_id.encode(), hashlib.sha256).digest()


def signature(key: bytes, kid: KeyId, command: Command, value: bytes) -> bytes:
    """Return the hex signature of a command and the exact bytes that carry it."""
    parts = (
        "v1",
        kid,
        command.action,
        quote(command.tenant_id, safe=""),
        f"{quote(command.target[0], safe='')}/{quote(command.target[1], safe='')}",
        str(command.seq),
        str(command.issued_ms),
        str(command.expires_ms),
        hashlib.sha256(value).hexdigest(),
    )
    return hmac.new(key, "|".join(parts).encode(), hashlib.sha256).hexdigest().encode()


def signed_headers(key: bytes, kid: KeyId, command: Command, value: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the two headers that make a record a signed command."""
    return ((KID_HEADER, kid.encode()), (SIGNATURE_HEADER, signature(key, kid, command, value)))


def claimed_kid(record: ControlRecord) -> KeyId | None:
    """Return who the record says it is from; None when it says nothing, something unknown, or two things."""
    match [value for name, value in record.headers if name == KID_HEADER]:
        case [b"engine"]:
            return "engine"
        case [b"operator"]:
            return "operator"
        case _:
            return None


def is_authentic(record: ControlRecord, kid: KeyId, key: bytes, command: Command, value: bytes) -> bool:
    """Whether the record carries exactly one signature and it is right. Takes the same time either way."""
    given = [signed for name, signed in record.headers if name == SIGNATURE_HEADER]
    if len(given) != 1 or given[0] is None:
        return False
    return hmac.compare_digest(given[0], signature(key, kid, command, value))
