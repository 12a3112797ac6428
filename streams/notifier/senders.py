"""The clients that talk to the policy's receivers, with the secrets that the environment holds."""

import ssl
from collections.abc import Mapping

from alerting.receivers.base import Sender
from alerting.receivers.console.sender import ConsoleSender
from alerting.receivers.pagerduty.sender import PagerDutySender
from alerting.receivers.slack.sender import SlackSender
from alerting.receivers.webhook.sender import WebhookSender
from schemas.errors import SettingsError
from schemas.routing import Receiver, Routing
from streams.settings import Settings, read_secrets

SLACK_TOKEN = "SLACK_BOT_TOKEN"  # noqa: S105  # a variable's name
"""Where a Slack receiver's token is unless `key_env` names another variable."""


def open_senders(routing: Routing, settings: Settings) -> dict[str, Sender]:
    """A sender for each receiver of the policy.

    Raises:
        SettingsError: with every secret that is missing from the environment.
    """
    named = {name: _variables(receiver) for name, receiver in routing.all_receivers.items()}
    secrets = read_secrets({variable: name for name, variables in named.items() for variable in variables})
    tls = _tls(settings)
    return {name: _sender(receiver, settings, secrets, tls) for name, receiver in routing.all_receivers.items()}


def _variables(receiver: Receiver) -> list[str]:
    key = SLACK_TOKEN if receiver.type == "slack" and receiver.key_env is None else receiver.key_env
    return [variable for variable in (key, receiver.url_env) if variable is not None]


def _sender(receiver: Receiver, settings: Settings, secrets: Mapping[str, str], tls: ssl.SSLContext | None) -> Sender:
    key = secrets.get(receiver.key_env or SLACK_TOKEN, "")
    match receiver.type:
        case "slack":
            return SlackSender(key, receiver.channel or "", base_url=settings.slack_url, links=settings.links)
        case "pagerduty":
            return PagerDutySender(key, url=settings.pagerduty_url, tls=tls, links=settings.links)
        case "webhook":
            url = receiver.url or secrets[receiver.url_env or ""]
            return WebhookSender(url, key if receiver.key_env else None)
        case "console":
            return ConsoleSender()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Trust in the authority that the settings name, for whoever stands behind a proxy; None for the usual ones."""
    if settings.receivers_ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(settings.receivers_ca))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"SPENDFUSE_RECEIVERS_CA: {settings.receivers_ca} cannot be used: {error}") from None
