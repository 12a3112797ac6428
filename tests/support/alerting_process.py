"""An alerting process of its own, and receivers that answer it from this process."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Message, Producer

from schemas.alert import Alert
from schemas.codec import encode
from schemas.operator import OperatorMessage
from schemas.signing import OperatorKey
from tests.support.kafka import TopicSpace
from tests.support.receivers import Receiver
from tests.support.service_process import ServiceProcess

TO_THE_HOOK = """
version = "hook"
[receivers.hook]
type = "webhook"
url = "{url}"
[[route]]
receivers = ["hook"]
group_by = ["incident_id"]
group_wait_seconds = 0
"""
"""A policy that tells one webhook of every incident at once and alone; give it the `url`."""


class AlertingProcess(ServiceProcess):
    """`python -m alerting`.

    Args:
        bootstrap: the broker's address.
        prefix: before every topic's name.
        policy: the policy file.
        secrets: what its receivers' `key_env` name.
        settings: further settings.
    """

    def __init__(
        self, bootstrap: str, prefix: str, policy: Path, secrets: Mapping[str, str], **settings: object
    ) -> None:
        given = {"KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix, "POLICY": policy, **settings}
        super().__init__(["alerting"], given, dict(secrets))

    def wait_owning(self, partitions: int, timeout_s: float = 60) -> None:
        """Wait until it answers for so many partitions."""
        self.wait_for(lambda: self._owned() == partitions, timeout_s, f"{partitions} partitions owned")

    def _owned(self) -> float:
        return self.metric("spendfuse_alerting_partitions").get("", 0.0)


class Listening:
    """A scripted receiver that listens in a thread of its own, for processes to talk to."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="receiver", daemon=True)

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return self.receiver.url

    @property
    def bodies(self) -> list[Any]:
        """What it was asked so far, read."""
        return [received.json for received in list(self.receiver.received)]

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.receiver.__aenter__(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.receiver.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def repeated_without_a_word(hook: Listening) -> list[str]:
    """Ids of messages that a webhook got again although they did not say that they may be repeated."""
    seen: set[str] = set()
    found = []
    for body in hook.bodies:
        if body["id"] in seen and not body["data"]["maybe_repeated"]:
            found.append(body["id"])
        seen.add(body["id"])
    return found


class AlertLog:
    """Writes alerts as the worker does: in transactions, in the partition of their tenant."""

    def __init__(self, space: TopicSpace) -> None:
        self._space = space
        self._producer = Producer(
            {
                "bootstrap.servers": space.bootstrap,
                "transactional.id": f"{space.prefix}alert-log",
                "partitioner": "murmur2_random",
                "retry.backoff.ms": 2,
                "retry.backoff.max.ms": 50,
                "log_level": 2,
            }
        )
        self._producer.init_transactions(30)

    def write(self, *alerts: Alert, abort: bool = False) -> None:
        """Alerts as one transaction, committed or aborted."""
        self.put("alerts.v1", [(each.tenant_id, encode(each)) for each in alerts], abort=abort)

    def order(self, message: OperatorMessage, key: str) -> None:
        """An operator's message, signed with `key`."""
        value = encode(message)
        headers = OperatorKey(key.encode()).order_headers(message.tenant_id, value)
        self.put("operator.v1", [(message.tenant_id, value)], headers)

    def put(
        self,
        topic: str,
        records: Sequence[tuple[str, bytes | None]],
        headers: list[tuple[str, bytes]] | None = None,
        *,
        abort: bool = False,
    ) -> list[tuple[int, int]]:
        """Records by tenant and value, as one transaction; returns partition and offset of each."""
        places: list[tuple[int, int]] = []

        def noted(_error: object, message: Message) -> None:
            places.append((message.partition() or 0, message.offset() or 0))

        self._producer.begin_transaction()
        for tenant_id, value in records:
            self._producer.produce(
                self._space.name(topic), value, tenant_id.encode(), headers=[*(headers or [])], on_delivery=noted
            )
        if abort:
            self._producer.flush(10)
            self._producer.abort_transaction(30)
        else:
            self._producer.commit_transaction(30)
        return places
