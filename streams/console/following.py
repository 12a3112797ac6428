"""The topics that the page is made of, followed into the book while this is entered."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from alerting.delivery.log import Delivery, decode_entry
from models.rules.policy import read_policy_json
from schemas.codec import decode_alert, decode_command, decode_key_check, decode_operator, decode_rollup, decode_run
from schemas.duration import DAY_MS
from schemas.errors import PolicyError, Undecodable
from schemas.signing import is_key_check
from streams.clock import wall_ms
from streams.console.state.book import Book
from streams.console.state.forged import Forged
from streams.edge.follower import Follower
from streams.edge.genuine import Genuine
from streams.kafka.order_reader import OrderReader
from streams.process.logs import fields
from streams.settings import Settings
from streams.tools.orders.audit import OrderRecord

log = logging.getLogger("spendfuse.console")

BACK_MS: Final = 40 * DAY_MS
"""How far back alerts, deliveries, orders and totals are read: a month's budget may be open for so long."""
RUNS_BACK_MS: Final = 8 * DAY_MS
"""The same of runs: those that say nothing for a week are forgotten by the worker as well."""
PATIENCE_S: Final = 180.0
NEEDED: Final = (
    "keys.v1", "policy.v1", "runs.v1", "rollups.v1", "alerts.v1", "deliveries.v1", "control.v1", "operator.v1",
    "usage.v1",
)  # fmt: skip


class Following:
    """Followers of all topics but usage.v1, each in a thread of its own. Entering returns once all are caught up.

    Raises:
        BrokerError: when entered, if a topic is not there or cannot be read to its end in time.
    """

    def __init__(self, settings: Settings, book: Book) -> None:
        self._settings = settings
        self._book = book
        self._orders = OrderReader.of(settings)
        self._genuine = Genuine.of(settings)
        book.checks_commands = self._genuine.checks
        self._stack = ExitStack()
        self._followers: list[Follower] = []
        self.unreadable = 0
        """Records that are nothing of ours."""

    def __enter__(self) -> Self:
        now_ms = wall_ms()
        takes: dict[str, tuple[Callable[[Any], None], int | None]] = {
            "policy.v1": (self._policy, None),
            "control.v1": (self._command, None),
            "rollups.v1": (self._rollup, now_ms - BACK_MS),
            "runs.v1": (self._run, now_ms - RUNS_BACK_MS),
            "alerts.v1": (self._alert, now_ms - BACK_MS),
            "deliveries.v1": (self._delivery, now_ms - BACK_MS),
            "operator.v1": (self._order, now_ms - BACK_MS),
        }
        try:
            for name, (take, since_ms) in takes.items():
                follower = Follower(
                    self._settings, name, self._careful(name, take), since_ms=since_ms, patience_s=PATIENCE_S
                )
                self._followers.append(self._stack.enter_context(follower))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def faults(self) -> list[str]:
        """Why topics are not followed any more, in a sentence each."""
        return [fault for follower in self._followers if (fault := follower.fault) is not None]

    def _careful(self, name: str, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """What cannot be read is counted and passed over: others tell of it."""

        def taken(message: Any) -> None:
            try:
                take(message)
            except (Undecodable, PolicyError, msgspec.DecodeError, UnicodeDecodeError) as fault:
                self.unreadable += 1
                about = fields(topic=name, partition=message.partition(), offset=message.offset(), fault=str(fault))
                log.warning("a record is passed over", extra=about)

        return taken

    def _policy(self, message: Any) -> None:
        if message.key() == self._settings.policy_name.encode() and message.value() is not None:
            self._book.take_policy(read_policy_json(message.value()), message.timestamp()[1])

    def _command(self, message: Any) -> None:
        if message.value() is None:
            return
        value, headers, written_ms = message.value(), message.headers(), message.timestamp()[1]
        if is_key_check(message.key()):
            check = decode_key_check(value)
            if self._genuine.is_engines(check, value, headers):
                self._book.take_key_check(check, written_ms)
            return
        command = decode_command(value)
        if self._genuine.is_engines(command, value, headers):
            self._book.take_command(command)
            return
        place = f"{message.partition()}/{message.offset()}"
        self._book.take_forged(Forged(command.tenant_id, command.action, command.target, written_ms, place))
        log.warning("a command that the engine did not sign", extra=fields(tenant_id=command.tenant_id, record=place))

    def _rollup(self, message: Any) -> None:
        if message.value() is not None:
            self._book.take_rollup(decode_rollup(message.value()))

    def _run(self, message: Any) -> None:
        if message.value() is not None:
            self._book.take_run(decode_run(message.value()))

    def _alert(self, message: Any) -> None:
        self._book.take_alert(decode_alert(message.value()))

    def _delivery(self, message: Any) -> None:
        if message.value() is None:
            return
        entry = decode_entry(message.value())
        if isinstance(entry, Delivery):
            self._book.take_delivery(entry)

    def _order(self, message: Any) -> None:
        order = decode_operator(message.value())
        appended_ms = message.timestamp()[1]
        record = OrderRecord(
            message.partition(), message.offset(), appended_ms, message.value(), message.headers() or []
        )
        self._book.take_order(order, record, is_genuine=self._is_genuine(record))

    def _is_genuine(self, record: OrderRecord) -> bool:
        try:
            self._orders.read(record.value, record.headers, record.appended_ms)
        except Undecodable:
            return False
        return True
