"""A PagerDuty service as a receiver. A page that failed is tried again after minutes rather than seconds."""

from alerting.receivers.base import Sender
from alerting.receivers.kind import Access, Limits, ReceiverKind
from schemas.routing import Receiver


def _variables(receiver: Receiver) -> list[str]:
    return [] if receiver.key_env is None else [receiver.key_env]


def _open_sender(receiver: Receiver, access: Access) -> Sender:
    from alerting.receivers.pagerduty.sender import PAGERDUTY_URL, PagerDutySender

    routing_key = access.secrets[receiver.key_env or ""]
    return PagerDutySender(routing_key, url=access.url or PAGERDUTY_URL, tls=access.tls, links=access.links)


PAGERDUTY = ReceiverKind(
    # About 120 calls a minute for an integration key, over the minute up to now, says PagerDuty's page about the limits
    # of its Events API; what goes up a level takes more than one.
    Limits(pace_ms=250, first_retry_ms=30_000, most_retry_ms=600_000, most_a_minute=100),
    _variables,
    _open_sender,
)
