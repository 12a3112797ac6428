"""Signatures on control.v1 and operator.v1: a broker's access rules end at the broker, a signature does not.

| what | signed by | checked by | with |
|---|---|---|---|
| a command | the engine, HMAC-SHA256 | the tenant's guards | the tenant's key, derived from the engine's root |
| a resume, besides | the engine, Ed25519 | the tenant's guards | the engine's public key |
| a command to all tenants | the engine, Ed25519 | all guards | the engine's public key |
| an order | an operator, Ed25519 | worker, alerting, tools | operators' public keys |

Whoever can check an HMAC can make one, so a guard's key can stop the runs of its own tenant; it lets nobody go on. Only
the engine, which has checked the operator, can say that.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.control import Command, KeyCheck
from schemas.internal.spend import ALL_TENANTS

KeyId = Literal["engine", "operator"]
"""On whose word: the engine's own, or an operator's whose order the engine has checked."""
Headers = Sequence[tuple[str, bytes | None]]
KID_HEADER: Final = "spendfuse-kid"
SIGNATURE_HEADER: Final = "spendfuse-signature"
LIFT_HEADER: Final = "spendfuse-lift"
"""The engine's Ed25519 signature of a resume, and of what is commanded to all tenants."""
SIGNED_HEADERS: Final = frozenset({KID_HEADER, SIGNATURE_HEADER, LIFT_HEADER})
REPEAT_HEADER: Final = "spendfuse-repeat"
"""On a command that was given before and is written once more: same id, same seq."""
KEY_CHECK: Final = "key_check"
NUDGE: Final = "nudge"
"""What stands in place of the target's type in the record key of a nudge: it must not take a command's place."""
_is_plain: Final = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch
"""Whether percent-encoding leaves a name as it is: nearly all are."""
SHORTEST_ROOT: Final = 32
"""Bytes of a root key: what is shorter can be guessed from a single signature."""


def part(text: str) -> str:
    """A piece of a key or of signed text, percent-encoded so that it cannot contain a separator."""
    return text if _is_plain(text) else quote(text, safe="")


def control_key(tenant_id: str, target_type: str, target_id: str) -> str:
    """The record key of control.v1: one per target, whatever characters the names hold."""
    return f"{part(tenant_id)}/{target_type}/{part(target_id)}"


def key_check_key(tenant_id: str) -> str:
    """The record key of a tenant's key check on control.v1."""
    return control_key(tenant_id, KEY_CHECK, "engine")


def is_key_check(key: bytes | None) -> bool:
    """Whether a record of control.v1 with this key is a key check, and no command."""
    return key is not None and f"/{KEY_CHECK}/".encode() in key


def nudge_key(tenant_id: str, run_id: str) -> str:
    """The record key of control.v1 of what a run's agent is told: one of 256 a tenant.

    Compaction keeps the last record of each key for good, and guards that start read them all. A nudge is worth nothing
    after minutes, so that most runs' may go as soon as another's comes.
    """
    return control_key(tenant_id, NUDGE, hashlib.sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()[:2])


def is_standing(key: bytes | None) -> bool:
    """Whether a record of control.v1 with this key is a command that may stand: neither a key check nor a nudge."""
    return not is_key_check(key) and (key is None or f"/{NUDGE}/".encode() not in key)


def tenant_key(root: bytes, tenant_id: str) -> bytes:
    """The key with which a tenant's guards check commands, derived from the engine's root key."""
    return hmac.digest(root, b"control|" + tenant_id.encode(), "sha256")


class EngineKeys:
    """What the engine signs with: everything is derived from its one root key."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._lift = _private_key(root, b"lift")

    @property
    def lift_key(self) -> bytes:
        """The public key with which guards check a resume."""
        return self._lift.public_key().public_bytes_raw()

    def tenant_key(self, tenant_id: str) -> bytes:
        """The key with which a tenant's guards check commands."""
        return tenant_key(self._root, tenant_id)

    def command_headers(self, command: Command, value: bytes, kid: KeyId) -> list[tuple[str, bytes]]:
        """Kafka headers that prove the engine's word for `command`, whose encoded form is `value`."""
        text = _command_text(command, value, kid)
        # Every guard hears what all tenants are told, and none may hold what signs it.
        needs_lift_key = command.action == "resume" or command.tenant_id == ALL_TENANTS
        return self._headers(kid, command.tenant_id, text, lifts=needs_lift_key)

    def key_check_headers(self, check: KeyCheck, value: bytes) -> list[tuple[str, bytes]]:
        """Kafka headers that prove the engine's keys, whose check has the encoded form `value`."""
        return self._headers("engine", check.tenant_id, _key_check_text(check.tenant_id, value), lifts=True)

    def has_signed(self, message: Command | KeyCheck, value: bytes, headers: Headers | None) -> bool:
        """Whether the headers hold the engine's own signatures of this message, each once."""
        given = [(name, text or b"") for name, text in headers or () if name in SIGNED_HEADERS]
        if isinstance(message, KeyCheck):
            expected = self.key_check_headers(message, value)
        else:
            kid: KeyId = "operator" if (KID_HEADER, b"operator") in given else "engine"
            expected = self.command_headers(message, value, kid)
        return len(given) == len(expected) and all(
            hmac.compare_digest(dict(given).get(name, b""), text) for name, text in expected
        )

    def _headers(self, kid: KeyId, tenant_id: str, text: bytes, *, lifts: bool) -> list[tuple[str, bytes]]:
        signature = hmac.new(self.tenant_key(tenant_id), text, hashlib.sha256).hexdigest()
        headers = [(KID_HEADER, kid.encode()), (SIGNATURE_HEADER, signature.encode())]
        if lifts:
            headers.append((LIFT_HEADER, self._lift.sign(text).hex().encode()))
        return headers


class OperatorKey:
    """What an operator signs orders with, derived from the operators' root key."""

    def __init__(self, root: bytes) -> None:
        self._key = _private_key(root, b"operator")

    @property
    def public_key(self) -> bytes:
        """What others check the orders with."""
        return self._key.public_key().public_bytes_raw()

    def order_headers(self, tenant_id: str, value: bytes) -> list[tuple[str, bytes]]:
        """Kafka headers that prove an operator wrote `value`."""
        signature = self._key.sign(_order_text(tenant_id, value))
        return [(KID_HEADER, b"operator"), (SIGNATURE_HEADER, signature.hex().encode())]


def operator_signed(tenant_id: str, value: bytes, headers: Headers | None, public_keys: Iterable[bytes]) -> bool:
    """Whether the headers hold a signature by one of these keys over exactly these bytes."""
    given = _signature(headers)
    return given is not None and any(_is_by(key, given, _order_text(tenant_id, value)) for key in public_keys)


def operator_signed_before(tenant_id: str, value: bytes, headers: Headers | None, root: bytes) -> bool:
    """Whether the headers hold an HMAC as operators signed with before they had a key pair.

    Agents could make these, so whoever asks must know that the order is older than the change.
    """
    given = dict(headers or ()).get(SIGNATURE_HEADER) or b""
    expected = hmac.new(tenant_key(root, tenant_id), _order_text(tenant_id, value), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), given)


def _signature(headers: Headers | None) -> bytes | None:
    try:
        return bytes.fromhex((dict(headers or ()).get(SIGNATURE_HEADER) or b"").decode("ascii"))
    except ValueError:
        return None


def _is_by(public_key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _command_text(command: Command, value: bytes, kid: KeyId) -> bytes:
    fields = (
        "v1", kid, command.action, part(command.tenant_id), f"{command.target.type}/{part(command.target.id)}",
        str(command.seq), str(command.issued_ms), str(command.expires_ms), hashlib.sha256(value).hexdigest(),
    )  # fmt: skip
    return "|".join(fields).encode()


def _key_check_text(tenant_id: str, value: bytes) -> bytes:
    return f"v1|engine|{KEY_CHECK}|{part(tenant_id)}|{hashlib.sha256(value).hexdigest()}".encode()


def _order_text(tenant_id: str, value: bytes) -> bytes:
    return f"v1|operator|{part(tenant_id)}|{hashlib.sha256(value).hexdigest()}".encode()


def _private_key(root: bytes, purpose: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hmac.digest(root, purpose, "sha256"))
