"""Any address that takes a POST as a receiver: the way to everything else."""

from alerting.receivers.base import Sender
from alerting.receivers.kind import Access, Limits, ReceiverKind
from schemas.routing import Receiver


def _variables(receiver: Receiver) -> list[str]:
    return [variable for variable in (receiver.key_env, receiver.url_env) if variable is not None]


def _open_sender(receiver: Receiver, access: Access) -> Sender:
    from alerting.receivers.webhook.sender import WebhookSender

    url = receiver.url or access.secrets[receiver.url_env or ""]
    secret = None if receiver.key_env is None else access.secrets[receiver.key_env]
    return WebhookSender(url, secret, tls=access.tls)


WEBHOOK = ReceiverKind(Limits(pace_ms=0, first_retry_ms=2_000, most_retry_ms=300_000), _variables, _open_sender)
