"""A Faust app over a cluster of the settings' that reads only what was committed.

Faust sets the isolation level only together with its own transactions; we want the first without the second, or alerts
of aborted transactions would be sent. Everything between the app and aiokafka's consumer is subclassed for that.
"""

import logging
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message

from streams.oauth_tokens import OAuthTokens
from streams.process.logs import fields
from streams.settings import Settings

log = logging.getLogger("spendfuse.alerting")

GROUP: Final = "spendfuse-alerting"


class CommittedConsumerThread(driver.AIOKafkaConsumerThread):
    """Creates its consumer as if the app had transactions: that is what Faust derives `read_committed` from."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        self.consumer.in_transaction = True
        try:
            return super()._create_worker_consumer(transport)
        finally:
            self.consumer.in_transaction = False


class CommittedConsumer(driver.Consumer):
    """A consumer whose thread reads committed records, and that reads a topic from its beginning which ends before the
    group's place: an unclean election has cut it, or it is another cluster's.

    Faust drops every record before the place that it has read up to, without a word.
    """

    def _new_consumer_thread(self) -> CommittedConsumerThread:
        return CommittedConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Go on where the group has come to; where a partition ends before that, at its beginning."""
        await super().perform_seek()
        ends = await self.highwaters(*self.assignment())
        for tp, end in ends.items():
            if self.read_to(tp) > (end or 0):
                about = fields(topic=tp.topic, partition=tp.partition, end=end)
                log.error("a topic ends before what was read of it: it is read from its beginning", extra=about)
                await self.seek(tp, 0)
                self._committed_offset[tp] = None

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Records as they come. Faust takes the offset 0 for none, and sees no gap behind it: where an aborted
        transaction follows the first record of a partition, nothing was committed until a restart.
        """
        async for tp, message in super().getmany(timeout):
            if self._read_offset[tp] == 0 and message.offset > 1:
                await self._add_gap(tp, 1, message.offset)
            yield tp, message

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Take note of offsets without a record, such as the ends of transactions; `offset_to` is that of the record
        behind them. Faust counts that one among them and once more when it is acknowledged: a place that occurs twice
        ends a row, and each commit gets one row further, a transaction a second.
        """
        await super()._add_gap(tp, offset_from, offset_to - 1)

    def read_to(self, tp: TP) -> int:
        """The offset of the last record that was read, or where reading began."""
        return self._read_offset[tp] or 0


class CommittedTransport(driver.Transport):
    """Kafka, as far as it is committed."""

    Consumer = CommittedConsumer


class CommittedApp(faust.App):
    """A Faust app over `CommittedTransport`, which keeps nothing on disk."""

    def _new_transport(self) -> CommittedTransport:
        return CommittedTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Without tables there is nothing to keep in a folder."""

    def raw_topic(self, name: str) -> Any:
        """A topic whose keys and values are bytes as they are, tombstones included."""
        raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes}
        return self.topic(name, **raw, key_serializer="raw", value_serializer="raw", allow_empty=True)


def committed_app(settings: Settings) -> CommittedApp:
    """The app of one alerting process: a static member of its group, without tables, leader, web server or topics of
    its own making.
    """
    session_s = settings.session_timeout_ms / 1000
    return CommittedApp(
        settings.group(GROUP),
        broker=[f"kafka://{address.strip()}" for address in settings.kafka_bootstrap.split(",")],
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 3,
        broker_commit_interval=1.0,
        broker_check_crcs=settings.kafka_check_crcs,
        broker_credentials=_credentials(settings),
        consumer_auto_offset_reset=settings.alerts_from,
        consumer_group_instance_id=f"{settings.prefix}alerting-{settings.slot}",
        producer_acks=-1,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
    )


def _credentials(settings: Settings) -> Any:
    """The cluster's credentials in Faust's terms; None for none."""
    if settings.kafka_security_protocol == "PLAINTEXT":
        return None
    context = None
    if "SSL" in settings.kafka_security_protocol:
        context = _tls(settings)
    if not settings.kafka_security_protocol.startswith("SASL"):
        return faust.SSLCredentials(context)
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return faust.auth.OAuthCredentials(oauth_cb=OAuthTokens(settings), ssl_context=context)
    password = settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password else ""
    return faust.SASLCredentials(
        username=settings.kafka_sasl_username or "",
        password=password,
        ssl_context=context,
        mechanism=settings.kafka_sasl_mechanism or "PLAIN",
    )


def _tls(settings: Settings) -> ssl.SSLContext:
    """Whom we believe, and, where the cluster asks for it, who we are."""
    context = ssl.create_default_context(cafile=str(settings.kafka_ssl_ca) if settings.kafka_ssl_ca else None)
    if settings.kafka_ssl_certificate is not None:
        password = settings.kafka_ssl_key_password
        context.load_cert_chain(
            settings.kafka_ssl_certificate,
            settings.kafka_ssl_key,
            None if password is None else password.get_secret_value(),
        )
    return context
