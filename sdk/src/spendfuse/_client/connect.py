"""An emitter and a guard for one tenant, by one address: a gateway's or Kafka's."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, Unpack, cast

from spendfuse._client.emitter import Emitter
from spendfuse._client.environment import PREFIX, keys_from_environment, setting
from spendfuse._client.fork import tell_of_forks
from spendfuse._client.guard import Guard
from spendfuse._client.run import Run, RunOptions
from spendfuse._control.command import ControlFeed
from spendfuse._control.signing import Keys
from spendfuse._http.control import HttpControl
from spendfuse._http.gateway import Gateway, GatewayError
from spendfuse._http.transport import HttpTransport
from spendfuse._usage.transport import Transport

WhenBlind = Literal["continue", "stop"]
MADE_FROM = "set SPENDFUSE_URL (and SPENDFUSE_KEY) for a gateway, or SPENDFUSE_KAFKA_BOOTSTRAP for Kafka"


@dataclass(frozen=True, slots=True)
class Connection:
    """What one tenant's agents report with and ask. `run` begins a run in whose block integrations find it."""

    tenant_id: str
    emitter: Emitter
    guard: Guard

    def run(self, *, parent: Run | None = None, **options: Unpack[RunOptions]) -> Run:
        """Return a run of the tenant, to be entered with `with`."""
        return self.emitter.run(self.tenant_id, parent=parent, **options)

    def close(self, timeout_s: float = 10.0) -> int:
        """End both; return how many events did not get there."""
        self.guard.close()
        return self.emitter.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    address: str | None = None,
    *,
    key: str | None = None,
    tenant_id: str | None = None,
    when_blind: WhenBlind | None = None,
    keys: Keys | None = None,
    config: Mapping[str, object] | None = None,
    hash_key: bytes | None = None,
) -> Connection:
    """Return an emitter and a guard: over HTTP by an address such as `https://…`, else by Kafka's brokers.

    What is left out comes from the environment: the address from SPENDFUSE_URL, else SPENDFUSE_KAFKA_BOOTSTRAP; the
    gateway's `key` from SPENDFUSE_KEY; `tenant_id` from SPENDFUSE_TENANT, over HTTP else the key's; `when_blind`, which
    is explained at `Guard`, from SPENDFUSE_WHEN_BLIND, over HTTP else the key's; Kafka's `keys` from
    SPENDFUSE_TENANT_KEY and SPENDFUSE_LIFT_KEY, if they are set. `config` is librdkafka's.

    Raises ValueError for what nobody has said, and ConnectionError if the gateway has to be asked and does not answer.
    """
    address = (address or "").strip() or setting("URL") or setting("KAFKA_BOOTSTRAP")
    if not address:
        raise ValueError(f"nobody says where to report: {MADE_FROM}")
    tenant_id = tenant_id or setting("TENANT")
    when_blind = when_blind or cast("WhenBlind | None", setting("WHEN_BLIND"))
    if when_blind not in (None, "continue", "stop"):
        raise ValueError(f'{PREFIX}WHEN_BLIND, or when_blind, is "continue" or "stop", and not {when_blind!r}')
    transport: Transport
    feed: ControlFeed
    if address.startswith(("http://", "https://")):
        tenant_id, when_blind = _by_key(Gateway(address, key), tenant_id, when_blind)
        transport, feed = HttpTransport(address, key=key), HttpControl(address, key=key, tenant_id=tenant_id)
    else:
        tenant_id, when_blind = _said(tenant_id, when_blind)
        keys = keys or (keys_from_environment() if f"{PREFIX}TENANT_KEY" in os.environ else None)
        transport, feed = _over_kafka(address, config)
    emitter = Emitter(transport, hash_key=hash_key)
    guard = Guard(feed, emitter, when_blind=when_blind, tenant_id=tenant_id, keys=keys, first_check_waits=True)
    return Connection(tenant_id, emitter, guard)


def _over_kafka(bootstrap: str, config: Mapping[str, object] | None) -> tuple[Transport, ControlFeed]:
    from spendfuse.kafka import KafkaControl, KafkaTransport  # noqa: PLC0415  # confluent-kafka is an extra

    return KafkaTransport(bootstrap, config=config), KafkaControl(bootstrap, config=config)


def _by_key(gateway: Gateway, tenant_id: str | None, when_blind: WhenBlind | None) -> tuple[str, WhenBlind]:
    """Tenant and `when_blind` as said, else as the key has them."""
    if tenant_id is not None and when_blind is not None:
        return tenant_id, when_blind
    try:
        info = gateway.key_info()
    except GatewayError as error:
        if error.status is not None:
            raise ValueError(str(error)) from None
        raise ConnectionError(
            f"{error}; with {PREFIX}TENANT and {PREFIX}WHEN_BLIND set it need not be there at the start"
        ) from None
    return tenant_id or info.tenant_id, when_blind or info.when_blind


def _said(tenant_id: str | None, when_blind: WhenBlind | None) -> tuple[str, WhenBlind]:
    if not tenant_id:
        raise ValueError(f"nobody says whose runs these are: give tenant_id, or set {PREFIX}TENANT")
    if when_blind is None:
        raise ValueError(
            f"nobody says what to do while commands cannot be heard: give when_blind, or set {PREFIX}WHEN_BLIND, to "
            '"continue" or "stop"'
        )
    return tenant_id, when_blind


class _Default:
    """The process's own connection, made by the environment when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        tell_of_forks(self)

    def forked(self) -> None:
        """In a child, nobody is making it."""
        self._lock = threading.Lock()

    def get(self) -> Connection:
        with self._lock:
            if self._connection is None:
                self._connection = connect()
            return self._connection


_DEFAULT = _Default()


def default_connection() -> Connection:
    """Return the process's own connection, made by the environment as `connect()` does it, once."""
    return _DEFAULT.get()


def run(**options: Unpack[RunOptions]) -> Run:
    """Return a run of the process's own connection, to be entered with `with`: integrations find it in its block."""
    return default_connection().run(**options)
