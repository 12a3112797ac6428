"""The terminal as a receiver."""

from alerting.receivers.base import Sender
from alerting.receivers.kind import Access, Limits, ReceiverKind
from schemas.routing import Receiver


def _variables(receiver: Receiver) -> list[str]:
    del receiver
    return []


def _open_sender(receiver: Receiver, access: Access) -> Sender:
    from alerting.receivers.console.sender import ConsoleSender

    del receiver, access
    return ConsoleSender()


CONSOLE = ReceiverKind(Limits(pace_ms=0, first_retry_ms=1_000, most_retry_ms=10_000), _variables, _open_sender)
