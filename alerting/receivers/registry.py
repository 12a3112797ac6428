"""Every kind of receiver. Nothing else names them one by one."""

from alerting.receivers.console.kind import CONSOLE
from alerting.receivers.kind import ReceiverKind
from alerting.receivers.pagerduty.kind import PAGERDUTY
from alerting.receivers.slack.kind import SLACK
from alerting.receivers.webhook.kind import WEBHOOK
from schemas.routing import ReceiverType

KINDS: dict[ReceiverType, ReceiverKind] = {
    "slack": SLACK,
    "pagerduty": PAGERDUTY,
    "webhook": WEBHOOK,
    "console": CONSOLE,
}
