"""All that the page knows, tenant by tenant: taken from the topics by several threads, looked at by one."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from alerting.delivery.log import Delivery
from models.rules.policy import Policy
from schemas.alert import Alert
from schemas.codec import encode
from schemas.control import Command, KeyCheck, Target
from schemas.internal.spend import ALL_TENANTS
from schemas.operator import Acknowledge, Kill, LimitException, OperatorMessage, Resume
from schemas.rollup import Rollup
from schemas.run import RunRecord
from streams.console.state.commands import Commands
from streams.console.state.forged import Forged
from streams.console.state.incidents import Incidents
from streams.console.state.runs import Runs
from streams.console.state.spend import SpendHours
from streams.tools.orders.audit import OrderRecord

MOST_ORDERS = 1_000
MOST_FORGED = 200
"""Of all tenants together: whose they are is their writer's word, so that they must not make tenants known."""


class InHand(NamedTuple):
    """Who acts on an incident."""

    order: Acknowledge
    since_ms: int


class TenantBook:
    """What is known of one tenant."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.spend = SpendHours()
        self.runs = Runs()
        self.incidents = Incidents()
        self.commands = Commands()
        self.orders: OrderedDict[tuple[int, int], OrderRecord] = OrderedDict()
        """Partition and offset -> a record of operator.v1 that names this tenant, believed or not."""
        self.raised: dict[tuple[str, str], LimitException] = {}
        """Rule and scope -> the newest exception that an operator's key has signed."""
        self.killed: OrderedDict[Target, Kill] = OrderedDict()
        """Target -> the kill that an operator's key has signed, until a resume of it."""
        self.in_hand: OrderedDict[str, InHand] = OrderedDict()
        """Incident -> whoever took it in hand last, by a signed order."""
        self.version = 0
        """Rises with everything that is taken."""

    def orders_naming(self, text: str) -> list[OrderRecord]:
        """Records of orders in which a name may stand."""
        written = encode(text)[1:-1]
        return [one for one in self.orders.values() if written in (one.value or b"")]


class Book:
    """Takes what topics say. Hold `lock` while looking at what it returns."""

    def __init__(self, policy: Policy) -> None:
        self.lock = threading.RLock()
        self.policy = policy
        self.policy_since_ms: int | None = None
        """When it was published; None for one that never was."""
        self.policy_version = 0
        self.checks_commands = False
        """Whether commands are taken on the engine's signature alone."""
        self._forged: OrderedDict[str, Forged] = OrderedDict()
        self._forged_seen = 0
        self._tenants: dict[str, TenantBook] = {}
        self._key_check_ms = -1
        self.operator_keys: set[str] = set()
        """Public keys of operators whom the workers obey, as the newest of their key checks says; empty for none."""

    def tenant(self, tenant_id: str) -> TenantBook:
        """What is known of a tenant, of which nothing need be known yet."""
        found = self._tenants.get(tenant_id)
        if found is None:
            found = self._tenants[tenant_id] = TenantBook(tenant_id)
        return found

    def known(self, tenant_id: str) -> TenantBook | None:
        """What is known of a tenant; None where nothing is."""
        return self._tenants.get(tenant_id)

    def visible(self, tenant_id: str) -> Iterator[TenantBook]:
        """What whoever reads for that tenant may see: its own; for all tenants, everything."""
        if tenant_id == ALL_TENANTS:
            yield from self._tenants.values()
        elif found := self._tenants.get(tenant_id):
            yield found

    def forged(self, tenant_id: str) -> list[Forged]:
        """Forged commands that whoever reads for that tenant may see, the newest first."""
        found = [one for one in self._forged.values() if tenant_id in (one.tenant_id, ALL_TENANTS)]
        return sorted(found, key=lambda one: -one.written_ms)

    def version(self, tenant_id: str) -> tuple[int, int, int]:
        """Another one whenever anything visible to that tenant's reader has changed."""
        with self.lock:
            return self.policy_version, self._forged_seen, sum(one.version for one in self.visible(tenant_id))

    def take_policy(self, policy: Policy, since_ms: int) -> None:
        """Another policy is in force."""
        with self.lock:
            self.policy, self.policy_since_ms = policy, since_ms
            self.policy_version += 1

    def take_rollup(self, rollup: Rollup) -> None:
        """An hour's total."""
        with self.lock:
            book = self._changed(rollup.tenant_id)
            book.spend.take(rollup)

    def take_run(self, record: RunRecord) -> None:
        """A run as it stands."""
        with self.lock:
            self._changed(record.tenant_id).runs.take(record)

    def take_alert(self, alert: Alert) -> None:
        """An alert."""
        with self.lock:
            book = self._changed(alert.tenant_id)
            book.incidents.take(alert)
            book.commands.take_alert(alert)

    def take_delivery(self, delivery: Delivery) -> None:
        """What became of telling somebody."""
        with self.lock:
            self._changed(delivery.alert.tenant_id).incidents.take_delivery(delivery)

    def take_command(self, command: Command) -> None:
        """A command."""
        with self.lock:
            self._changed(command.tenant_id).commands.take(command)

    def take_forged(self, forged: Forged) -> None:
        """What looks like a command and is none of the engine's."""
        with self.lock:
            self._forged[forged.record] = forged
            self._forged_seen += 1
            if len(self._forged) > MOST_FORGED:
                self._forged.popitem(last=False)

    def take_key_check(self, check: KeyCheck, written_ms: int) -> None:
        """Whose orders the workers obey."""
        with self.lock:
            if written_ms >= self._key_check_ms:
                self._key_check_ms, self.operator_keys = written_ms, set(check.operator_keys)

    def take_order(self, order: OperatorMessage, record: OrderRecord, *, is_genuine: bool) -> None:
        """A record of operator.v1, and what it says; believed where an operator's key has signed it."""
        with self.lock:
            book = self._changed(order.tenant_id)
            book.orders[record.partition, record.offset] = record
            if len(book.orders) > MOST_ORDERS:
                book.orders.popitem(last=False)
            if is_genuine and isinstance(order, LimitException):
                book.raised[order.rule, order.scope] = order
            if is_genuine and isinstance(order, Kill):
                book.killed[order.target] = order
                if len(book.killed) > MOST_ORDERS:
                    book.killed.popitem(last=False)
            if is_genuine and isinstance(order, Resume):
                book.killed.pop(order.target, None)
            if is_genuine and isinstance(order, Acknowledge):
                book.in_hand[order.incident_id] = InHand(order, record.appended_ms)
                if len(book.in_hand) > MOST_ORDERS:
                    book.in_hand.popitem(last=False)

    def _changed(self, tenant_id: str) -> TenantBook:
        book = self.tenant(tenant_id)
        book.version += 1
        return book
