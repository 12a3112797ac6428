"""From a record of the control topic to a command that may be believed, or a counted reason why not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from spendfuse._client.logging import LOG
from spendfuse._control.command import Command, ControlRecord, Malformed, key_check_tenant, parse
from spendfuse._control.signing import Keys, TenantKeys, claimed_kid, is_authentic, keys_hold

KeysByTenant = Callable[[str], Keys]
"""Raises LookupError for a tenant that is not served here. Asked for `spendfuse/all-tenants` too, of whose keys only
`lift` is looked at.
"""

Ignored = Literal["tombstone", "malformed", "forged", "replayed", "expired", "not_entitled"]
"""Why a record was not acted on. `forged` covers a missing, wrong or doubled signature."""


@dataclass(slots=True)
class GuardStats:
    """Counts since the start; each name but the first two is a reason of `Ignored`."""

    applied: int = 0
    other_tenant: int = 0
    tombstone: int = 0
    malformed: int = 0
    forged: int = 0
    replayed: int = 0
    expired: int = 0
    not_entitled: int = 0


@dataclass(frozen=True, slots=True)
class Believed:
    """A command whose origin is established, as far as keys were given to establish it."""

    command: Command
    by_operator: bool


@dataclass(frozen=True, slots=True)
class KeysChecked:
    """Whether the keys of a tenant are those of the engine."""

    tenant_id: str
    hold: bool


class KeysUnavailable(Exception):
    """The caller's function failed to give a tenant's keys, so that a record cannot be judged yet."""


class Intake:
    """Decides what a record is. Only what is for the served tenant and properly signed gets through."""

    def __init__(self, tenant_id: str | None, keys: Keys | KeysByTenant | None) -> None:
        if isinstance(keys, Mapping) and tenant_id is None:
            raise ValueError("keys belong to one tenant: name it with tenant_id, or give keys as a function of it")
        self._tenant_id = tenant_id
        self._keys = TenantKeys.of(keys) if isinstance(keys, Mapping) else keys
        if isinstance(self._keys, TenantKeys) and not self._keys.lift:
            LOG.warning(
                "guard without a key under `lift`, which proves a resume and what all tenants are told: what is "
                "stopped stays so, and budgets of all tenants stop nothing here, until this process has it; `python -m "
                "streams keys derive` prints it"
            )

    def read(self, record: ControlRecord) -> Believed | KeysChecked | Ignored | None:
        """Return the command, the reason to ignore the record, or None when it is another tenant's.

        Raises KeysUnavailable.
        """
        if record.value is None:
            return "tombstone"
        checked = key_check_tenant(record.value)
        if checked is not None:
            return self._checked(record, checked, record.value)
        try:
            command = parse(record.value)
        except Malformed:
            return "malformed"
        if command.is_for_all:
            if command.target[0] != "scope":
                return "malformed"
        elif self._tenant_id is not None and command.tenant_id != self._tenant_id:
            return None
        kid = claimed_kid(record)
        if self._keys is not None:
            keys = self._keys_of(command.tenant_id)
            if keys is None:
                return None
            if kid is None or not is_authentic(record, kid, keys, command, record.value):
                return "forged"
        return Believed(command, by_operator=kid == "operator")

    def _checked(self, record: ControlRecord, tenant_id: str, value: bytes) -> KeysChecked | None:
        if self._tenant_id is not None and tenant_id != self._tenant_id:
            return None
        keys = self._keys_of(tenant_id)
        return None if keys is None else KeysChecked(tenant_id, keys_hold(record, keys, tenant_id, value))

    def _keys_of(self, tenant_id: str) -> TenantKeys | None:
        if self._keys is None or isinstance(self._keys, TenantKeys):
            return self._keys
        try:
            return TenantKeys.of(self._keys(tenant_id))
        except LookupError:
            return None
        except BaseException as error:  # the caller's own code, which may exit
            raise KeysUnavailable(f"{type(error).__name__}: {error}") from error
