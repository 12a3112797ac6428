"""`keys create`, `list` and `revoke`: who may use the gateway. A token is shown once, when it is made."""

import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from schemas.codec import encode
from schemas.edge.access_key import OF_ONE_TENANT, AccessKey, AccessKeys, AccessScope, Token
from schemas.errors import SettingsError
from schemas.internal.spend import ALL_TENANTS
from streams.clock import wall_ms
from streams.kafka.admin import existing_topics
from streams.kafka.client import write_one
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings

TOPIC = "keys.v1"


def run_create(
    settings: Settings,
    tenant_id: str,
    scopes: Sequence[AccessScope],
    label: str | None,
    when_blind: str = "continue",
    charge: Sequence[str] | None = None,
) -> int:
    """Make a key and print its token. Raises `BrokerError` or `SettingsError`."""
    if tenant_id == ALL_TENANTS and OF_ONE_TENANT.intersection(scopes):
        raise SettingsError("a key of all tenants may read and operate, nothing else: usage is one tenant's")
    existing_topics(settings, [TOPIC])
    token = Token(secrets.token_hex(6), secrets.token_hex(24))
    given = {
        "key_id": token.key_id, "tenant_id": tenant_id, "scopes": list(dict.fromkeys(scopes)), "label": label,
        "secret_sha256": token.secret_sha256, "created_ms": wall_ms(), "created_by": _operator(settings),
        "when_blind": when_blind, "charge": charge,
    }  # fmt: skip
    try:
        key = msgspec.convert(given, AccessKey)
    except msgspec.ValidationError as error:
        raise SettingsError(f"no such key can be made: {error}") from None
    _write(settings, key)
    print(f"# for {tenant_id}: {', '.join(key.scopes)}. It is shown this once", file=sys.stderr)
    print(token)
    return 0


def run_list(settings: Settings) -> int:
    """Print every key, the newest last. Raises `BrokerError`."""
    existing_topics(settings, [TOPIC])
    keys = known_keys(settings)
    if not keys:
        print("no key has been made: python -m streams keys create --tenant NAME")
    for key in sorted(keys.values(), key=lambda one: one.created_ms):
        made = datetime.fromtimestamp(key.created_ms / 1000, UTC).strftime("%Y-%m-%d")
        state = "revoked" if key.revoked_ms is not None else "in use"
        made_by = f"{made} by {key.created_by}"
        told = [key.key_id, key.tenant_id, "+".join(key.scopes), state, made_by, key.label or "", charged(key)]
        print("  ".join(told).rstrip())
    return 0


def run_revoke(settings: Settings, key_id: str) -> int:
    """Have a key refused from now on. Raises `SettingsError` if there is none whose id begins so, or several."""
    existing_topics(settings, [TOPIC])
    found = [key for key in known_keys(settings).values() if key.key_id.startswith(key_id.removeprefix("sf_")[:12])]
    if len(found) != 1 or not key_id:
        raise SettingsError(
            f"{len(found)} keys begin with {key_id!r}: name one of those that `keys list` shows"
            if found
            else f"no key begins with {key_id!r}: `keys list` shows all"
        )
    [key] = found
    if key.revoked_ms is not None:
        print(f"{key.key_id} of {key.tenant_id} was revoked already")
        return 0
    _write(settings, msgspec.structs.replace(key, revoked_ms=wall_ms(), revoked_by=_operator(settings)))
    print(f"{key.key_id} of {key.tenant_id} is revoked: gateways refuse it within a second")
    return 0


def charged(key: AccessKey) -> str:
    """Whose model calls count that come with a key, in words; empty where all do."""
    if key.charge is None:
        return ""
    return f"model calls count from {', '.join(key.charge)} alone" if key.charge else "model calls do not count"


def known_keys(settings: Settings) -> AccessKeys:
    """Every key by its id, as its newest record says."""
    keys = AccessKeys()
    for message in committed_records(settings, TOPIC):
        keys.take(message.key(), message.value())
    return keys


def _write(settings: Settings, key: AccessKey) -> None:
    write_one(settings, TOPIC, key.key_id.encode(), encode(key), "the key")


def _operator(settings: Settings) -> str:
    """Who makes or revokes a key, as the settings have it. Raises `SettingsError` if nobody knows."""
    if settings.operator_name is None:
        raise SettingsError("nobody knows who you are: set SPENDFUSE_OPERATOR_NAME")
    return settings.operator_name
