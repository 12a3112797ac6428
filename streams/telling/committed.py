"""A Faust app that reads only what was committed.

Faust sets the isolation level only together with its own transactions; we want the first without the second, or alerts
of aborted transactions would be told. Everything between the app and aiokafka's consumer is subclassed for that.
"""

from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver


class CommittedConsumerThread(driver.AIOKafkaConsumerThread):
    """Creates its consumer as if the app had transactions: that is what Faust derives `read_committed` from."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        self.consumer.in_transaction = True
        try:
            return super()._create_worker_consumer(transport)
        finally:
            self.consumer.in_transaction = False


class CommittedConsumer(driver.Consumer):
    """A consumer whose thread reads committed records."""

    def _new_consumer_thread(self) -> CommittedConsumerThread:
        return CommittedConsumerThread(self, loop=self.loop, beacon=self.beacon)


class CommittedTransport(driver.Transport):
    """Kafka, as far as it is committed."""

    Consumer = CommittedConsumer


class CommittedApp(faust.App):
    """A Faust app over `CommittedTransport`, which keeps nothing on disk."""

    def _new_transport(self) -> CommittedTransport:
        return CommittedTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Without tables there is nothing to keep in a folder."""
