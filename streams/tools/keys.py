"""`keys`: make root keys, derive from them what others need, replace them, and see whether all have the right ones.

Secrets go to standard output, for a secret store to read; nothing else does. They come from settings, never from the
command line, where every user of the machine could read them.
"""

import secrets
import sys
from collections.abc import Iterator
from typing import Any, Literal

from schemas.codec import decode_key_check
from schemas.control import KeyCheck
from schemas.errors import SettingsError, Undecodable
from schemas.signing import EngineKeys, OperatorKey, is_key_check
from streams.kafka.admin import partition_count
from streams.kafka.whole_topic import committed_records
from streams.settings import PREFIX, Settings

ROOT_BYTES = 32
WRONG_KEYS = 3
"""Exit code: somebody's commands or orders would not be believed."""

Whose = Literal["engine", "operator"]


def run_generate() -> int:
    """Print new root keys, with the public key of the operators'."""
    engine, operator = _new_root(), _new_root()
    _say("for the workers of this installation alone: they sign commands with it, and whoever holds it is obeyed")
    _print("ENGINE_KEY", engine)
    _say("for those who give orders, and for alerting where Slack's buttons do")
    _print("OPERATOR_KEY", operator)
    _say("for workers and alerting: they check orders with it")
    _print("OPERATOR_PUBLIC_KEY", OperatorKey(operator.encode()).public_key.hex())
    return 0


def run_derive(settings: Settings, tenant_id: str | None) -> int:
    """Print what others need of the root keys of this environment. Raises `SettingsError` if there is none."""
    roots = [root for root in (settings.engine_root_key, settings.engine_root_key_before) if root is not None]
    if not roots and settings.operator_root_key is None:
        raise SettingsError(
            f"neither {PREFIX}ENGINE_KEY nor {PREFIX}OPERATOR_KEY is set: there is nothing to derive from. "
            "`keys generate` makes new ones"
        )
    if roots and tenant_id is None and settings.operator_root_key is None:
        raise SettingsError("--tenant: say for whose agents the keys are")
    if roots and tenant_id is not None:
        engines = [EngineKeys(root) for root in roots]
        _say(f"for the agents of {tenant_id}, and for no other tenant's: a secret")
        _print("TENANT_KEY", ",".join(keys.tenant_key(tenant_id).hex() for keys in engines))
        _say("for the agents of every tenant: public")
        _print("LIFT_KEY", ",".join(keys.lift_key.hex() for keys in engines))
    if settings.operator_root_key is not None:
        _say("for workers and alerting: public")
        _print("OPERATOR_PUBLIC_KEY", OperatorKey(settings.operator_root_key).public_key.hex())
    return 0


def run_rotate(settings: Settings, whose: Whose) -> int:
    """Print a new root key and the steps by which it replaces the one of this environment, nobody being cut off."""
    new = _new_root()
    if whose == "engine":
        old = _needed(settings.engine_root_key, "ENGINE_KEY")
        _say(
            "1. set both where `keys derive --tenant T` is run, and give each tenant's agents what it prints: two keys"
        )
        _say("   each, the new one and the old one")
        _say("2. set both for all workers and start them anew: what stands is signed with the new key")
        _say("3. when `keys check` finds nothing wrong, take ENGINE_KEY_BEFORE away, derive again, and give agents the")
        _say("   new key alone")
        _print("ENGINE_KEY", new)
        _print("ENGINE_KEY_BEFORE", old.decode())
        return 0
    old = _needed(settings.operator_root_key, "OPERATOR_KEY")
    publics = [OperatorKey(root).public_key.hex() for root in (new.encode(), old)]
    _say("1. give workers and alerting both public keys, and start them anew")
    _print("OPERATOR_PUBLIC_KEY", ",".join(publics))
    _say("2. give those who give orders the new key")
    _say("3. when all have it, leave workers and alerting the first public key alone")
    _print("OPERATOR_KEY", new)
    return 0


def run_check(settings: Settings, tenant_id: str | None) -> int:
    """Compare the keys of this environment with the key checks that workers have written; returns the exit code.

    Raises:
        SettingsError: there is no key here to compare.
        BrokerError: control.v1 cannot be read.
    """
    if settings.engine_root_key is None and not settings.operator_public_keys:
        raise SettingsError(f"set {PREFIX}ENGINE_KEY, {PREFIX}OPERATOR_KEY or {PREFIX}OPERATOR_PUBLIC_KEY to check it")
    partition_count(settings, needed=("control.v1",), alike=("control.v1",))
    found = dict(key_faults(settings, tenant_id))
    wrong = {tenant: faults for tenant, faults in found.items() if faults}
    for tenant, faults in sorted(wrong.items()):
        print(f"{tenant}: {'; '.join(faults)}")
    if not found:
        print("no key check stands on control.v1: no worker with a key has seen a tenant yet, so nothing was compared")
    else:
        print(f"{len(found) - len(wrong)} of {len(found)} tenants have the keys of this environment")
    return WRONG_KEYS if wrong else 0


def key_faults(settings: Settings, tenant_id: str | None) -> Iterator[tuple[str, list[str]]]:
    """Each tenant with what is wrong, by the last of its key checks."""
    engine = None if settings.engine_root_key is None else EngineKeys(settings.engine_root_key)
    ours = {key.hex() for key in settings.operator_public_keys}
    for check, message in _key_checks(settings):
        if tenant_id not in (None, check.tenant_id):
            continue
        faults = []
        if engine is not None and not engine.has_signed(check, message.value(), message.headers()):
            faults.append("the worker signs with another engine key, or this is none of its key checks")
        if ours and not ours & set(check.operator_keys):
            faults.append("the worker refuses orders of the operator's key here")
        yield check.tenant_id, faults


def signs_with_our_key(settings: Settings, prefix: str) -> bool:
    """Whether the workers of another installation on this cluster, under that prefix, sign with the engine key that is
    set here. Raises `BrokerError`.
    """
    if settings.engine_root_key is None:
        return False
    engine = EngineKeys(settings.engine_root_key)
    checks = _key_checks(settings.model_copy(update={"prefix": prefix}))
    return any(engine.has_signed(check, message.value(), message.headers()) for check, message in checks)


def _key_checks(settings: Settings) -> Iterator[tuple[KeyCheck, Any]]:
    """The key checks on control.v1, each with its record."""
    for message in committed_records(settings, "control.v1"):
        if not is_key_check(message.key()):
            continue
        try:
            yield decode_key_check(message.value()), message
        except Undecodable:
            continue  # deleted, or forged: the worker writes it again


def _needed(root: bytes | None, name: str) -> bytes:
    if root is None:
        raise SettingsError(f"{PREFIX}{name} is not set: it is what is to be replaced")
    return root


def _new_root() -> str:
    return secrets.token_hex(ROOT_BYTES)


def _print(name: str, value: str) -> None:
    print(f"{PREFIX}{name}={value}")


def _say(text: str) -> None:
    print(f"# {text}", file=sys.stderr)
