"""Who said it: signatures over commands, in the headers of their records.

Every command carries an HMAC of the engine under a key derived for the tenant, so that a tenant's key is of no use
against another one. Whoever can check an HMAC can make one, so a resume also carries a signature of the engine's that
an agent can check and not make: no agent can let anything go on, not even itself. What all tenants are told carries
that one as well, and is believed by it alone: no agent can stop another tenant's runs.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import quote

from spendfuse._control import ed25519
from spendfuse._control.command import Command, ControlRecord

KID_HEADER = "spendfuse-kid"
SIGNATURE_HEADER = "spendfuse-signature"
LIFT_HEADER = "spendfuse-lift"
KEY_BYTES = 32

KeyId = Literal["engine", "operator"]
"""On whose word: the engine's own, or an operator's whose order the engine has checked."""
Keys = Mapping[str, bytes | Sequence[bytes]]
"""One tenant's keys: under `engine` what proves a command, under `lift` what proves that it may go on. Several while
one replaces another."""


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """A tenant's keys, checked for what can be wrong with them."""

    engine: tuple[bytes, ...]
    lift: tuple[bytes, ...]

    @classmethod
    def of(cls, keys: Keys) -> Self:
        """Raises ValueError for keys that cannot be any."""
        return cls(_checked("engine", keys.get("engine", ())), _checked("lift", keys.get("lift", ())))


def derive_tenant_key(root: bytes, tenant_id: str) -> bytes:
    """Return the tenant's 32-byte key under the engine's root key, which stays with the service."""
    return hmac.new(root, b"control|" + tenant_id.encode(), hashlib.sha256).digest()


def derive_keys(root: bytes, tenant_id: str) -> dict[str, bytes]:
    """Return what a guard of the tenant needs of the engine's root key, which stays with the service."""
    return {"engine": derive_tenant_key(root, tenant_id), "lift": ed25519.public_key(lift_seed(root))}


def lift_seed(root: bytes) -> bytes:
    """Return the private key that lifts are signed with."""
    return hmac.new(root, b"lift", hashlib.sha256).digest()


def signed_text(kid: KeyId, command: Command, value: bytes) -> bytes:
    """Return what is signed of a command and the exact bytes that carry it."""
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
    return "|".join(parts).encode()


def signature(key: bytes, text: bytes) -> bytes:
    """Return the hex HMAC of a signed text."""
    return hmac.new(key, text, hashlib.sha256).hexdigest().encode()


def signed_headers(root: bytes, kid: KeyId, command: Command, value: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that make a record a command of the engine whose root key this is."""
    text = signed_text(kid, command, value)
    mac = signature(derive_tenant_key(root, command.tenant_id), text)
    headers = [(KID_HEADER, kid.encode()), (SIGNATURE_HEADER, mac)]
    if command.action == "resume" or command.is_for_all:
        headers.append((LIFT_HEADER, ed25519.sign(lift_seed(root), text).hex().encode()))
    return tuple(headers)


def claimed_kid(record: ControlRecord) -> KeyId | None:
    """Return on whose word the record says it is; None when it says nothing, something unknown, or two things."""
    match [value for name, value in record.headers if name == KID_HEADER]:
        case [b"engine"]:
            return "engine"
        case [b"operator"]:
            return "operator"
        case _:
            return None


def is_authentic(record: ControlRecord, kid: KeyId, keys: TenantKeys, command: Command, value: bytes) -> bool:
    """Whether the record carries the engine's signature, and where it lifts something the one for that as well."""
    text = signed_text(kid, command, value)
    if command.is_for_all:  # no agent holds a key that signs it
        return _holds_lift(_only(record, LIFT_HEADER), keys.lift, text)
    if not _holds_mac(_only(record, SIGNATURE_HEADER), keys.engine, text):
        return False
    return command.action != "resume" or _holds_lift(_only(record, LIFT_HEADER), keys.lift, text)


def key_check_text(tenant_id: str, value: bytes) -> bytes:
    """Return what is signed of a tenant's key check."""
    return f"v1|engine|key_check|{quote(tenant_id, safe='')}|{hashlib.sha256(value).hexdigest()}".encode()


def keys_hold(record: ControlRecord, keys: TenantKeys, tenant_id: str, value: bytes) -> bool:
    """Whether these are the keys of the engine that has signed a key check."""
    text = key_check_text(tenant_id, value)
    lifts = not keys.lift or _holds_lift(_only(record, LIFT_HEADER), keys.lift, text)
    return lifts and _holds_mac(_only(record, SIGNATURE_HEADER), keys.engine, text)


def _only(record: ControlRecord, header: str) -> bytes:
    """The value of a header that is there once; empty otherwise."""
    given = [value for name, value in record.headers if name == header]
    return given[0] or b"" if len(given) == 1 else b""


def _holds_mac(given: bytes, keys: Iterable[bytes], text: bytes) -> bool:
    return any(hmac.compare_digest(given, signature(key, text)) for key in keys)


def _holds_lift(given: bytes, keys: Iterable[bytes], text: bytes) -> bool:
    try:
        signed = bytes.fromhex(given.decode("ascii"))
    except ValueError:
        return False
    return any(ed25519.verify(key, signed, text) for key in keys)


def _checked(name: str, given: bytes | Sequence[bytes]) -> tuple[bytes, ...]:
    keys = (given,) if isinstance(given, bytes) else tuple(given)
    if any(not isinstance(key, bytes) or len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"a key under {name!r} has {KEY_BYTES} bytes; `python -m streams keys derive` prints it")
    return keys
