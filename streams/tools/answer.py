"""What workers make of an order: waited for on control.v1, because an order that nobody obeys looks like any other."""

from typing import Final

from confluent_kafka import TopicPartition

from alerting.rendering.figures import clock
from schemas.codec import decode_command
from schemas.control import Command
from schemas.errors import Undecodable
from schemas.operator import Kill, OperatorMessage, Resume
from streams.clock import seconds
from streams.kafka.whole_topic import bounds_of, make_reader
from streams.settings import Settings

ANSWER_S: Final = 5.0
"""A worker that is up to date obeys within milliseconds."""
NO_ANSWER: Final = (
    f"no worker has obeyed within {ANSWER_S:.0f} s. The order stands on operator.v1, and is obeyed when a worker reads "
    "it: `python -m streams doctor` says whether one runs, and which keys it believes"
)


class Answer:
    """The command that follows from an order. Make it before the order is written.

    Raises:
        BrokerError: control.v1 cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        topic = settings.topic("control.v1")
        self._reader = make_reader(settings)
        ends = {number: end for number, (_, end) in bounds_of(self._reader, settings, topic).items()}
        self._reader.assign([TopicPartition(topic, number, end) for number, end in ends.items()])

    def said(self, order: OperatorMessage) -> str | None:
        """Since when workers have obeyed, in a sentence; None where they have not within `ANSWER_S`."""
        deadline = seconds() + ANSWER_S
        try:
            while seconds() < deadline:
                for message in self._reader.consume(1_000, 0.1):
                    command = None if message.error() is not None else _command(message.value())
                    if command is not None and follows(command, order):
                        return f"A worker has obeyed at {clock(command.issued_ms)}."
        finally:
            self._reader.close()
        return None


def follows(command: Command, order: OperatorMessage) -> bool:
    """Whether a command that was given after an order is what the order asked for."""
    if not isinstance(order, Kill | Resume) or (command.tenant_id, command.target) != (order.tenant_id, order.target):
        return False
    if isinstance(order, Resume):
        return command.action == "resume"
    return command.action == "kill" and command.incident_id == order.message_id


def _command(value: bytes | None) -> Command | None:
    try:
        return decode_command(value)
    except Undecodable:
        return None
