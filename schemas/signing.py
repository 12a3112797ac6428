"""Signatures on control.v1 and operator.v1: a broker's access rules end at the broker, a signature does not.

HMAC-SHA256 with a key per tenant, derived from a root key, so that a guard which holds its tenant's key can forge
commands against nobody else. Two roots: the engine's may stop, the operator's may let go again.
"""

import hashlib
import hmac
from typing import Literal
from urllib.parse import quote

from schemas.control import Command

KeyId = Literal["engine", "operator"]
KID_HEADER = "spendfuse-kid"
SIGNATURE_HEADER = "spendfuse-signature"


def part(text: str) -> str:
    """A piece of a key or of signed text, percent-encoded so that it cannot contain a separator."""
    return quote(text, safe="")


def control_key(tenant_id: str, target_type: str, target_id: str) -> str:
    """The record key of control.v1: one per target, whatever characters the names hold."""
    return f"{part(tenant_id)}/{target_type}/{part(target_id)}"


def tenant_key(root_key: bytes, tenant_id: str) -> bytes:
    """The key of one tenant, derived from a root key."""
    return hmac.digest(root_key, b"control|" + tenant_id.encode(), "sha256")


def command_headers(command: Command, value: bytes, kid: KeyId, root_key: bytes) -> list[tuple[str, bytes]]:
    """Kafka headers that prove who ordered `command`, whose encoded form is `value`."""
    target = f"{command.target.type}/{part(command.target.id)}"
    fields = (
        "v1", kid, command.action, part(command.tenant_id), target, str(command.seq), str(command.issued_ms),
        str(command.expires_ms), hashlib.sha256(value).hexdigest(),
    )  # fmt: skip
    signature = _sign(tenant_key(root_key, command.tenant_id), "|".join(fields))
    return [(KID_HEADER, kid.encode()), (SIGNATURE_HEADER, signature.encode())]


def operator_headers(tenant_id: str, value: bytes, root_key: bytes) -> list[tuple[str, bytes]]:
    """Kafka headers that prove an operator wrote `value`."""
    signature = _sign(tenant_key(root_key, tenant_id), _operator_text(tenant_id, value))
    return [(KID_HEADER, b"operator"), (SIGNATURE_HEADER, signature.encode())]


def operator_is_genuine(
    tenant_id: str, value: bytes, headers: list[tuple[str, bytes | None]] | None, root_key: bytes
) -> bool:
    """True if the headers hold an operator's signature over exactly these bytes."""
    given = dict(headers or ()).get(SIGNATURE_HEADER) or b""
    expected = _sign(tenant_key(root_key, tenant_id), _operator_text(tenant_id, value))
    return hmac.compare_digest(expected.encode(), given)


def _operator_text(tenant_id: str, value: bytes) -> str:
    return f"v1|operator|{part(tenant_id)}|{hashlib.sha256(value).hexdigest()}"


def _sign(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
