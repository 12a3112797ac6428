"""A Slack channel as a receiver. Slack takes about one message a second per channel."""

from alerting.receivers.base import Sender
from alerting.receivers.kind import Access, Limits, ReceiverKind
from schemas.routing import Receiver

TOKEN = "SLACK_BOT_TOKEN"  # noqa: S105  # a variable's name
"""Where the token is unless `key_env` names another variable."""


def _variables(receiver: Receiver) -> list[str]:
    return [receiver.key_env or TOKEN]


def _open_sender(receiver: Receiver, access: Access) -> Sender:
    from alerting.receivers.slack.sender import SLACK_URL, SlackSender

    token = access.secrets[receiver.key_env or TOKEN]
    return SlackSender(
        token, receiver.channel or "", base_url=access.url or SLACK_URL, tls=access.tls, links=access.links
    )


SLACK = ReceiverKind(Limits(pace_ms=1_000, first_retry_ms=2_000, most_retry_ms=300_000), _variables, _open_sender)
