"""The senders of the policy's receivers, with the secrets that the environment holds."""

import ssl

from alerting.receivers.base import Sender
from alerting.receivers.kind import Access
from alerting.receivers.registry import KINDS
from schemas.errors import SettingsError
from schemas.routing import Routing
from streams.settings import Settings, read_secrets


def open_senders(routing: Routing, settings: Settings) -> dict[str, Sender]:
    """A sender for each receiver of the policy.

    Raises:
        SettingsError: with every secret that is missing from the environment.
    """
    receivers = routing.all_receivers
    needed = {name: KINDS[receiver.type].variables(receiver) for name, receiver in receivers.items()}
    secrets = read_secrets({variable: name for name, variables in needed.items() for variable in variables})
    tls = receivers_tls(settings)
    senders = {}
    for name, receiver in receivers.items():
        url = getattr(settings, f"{receiver.type}_url", None)
        senders[name] = KINDS[receiver.type].open_sender(receiver, Access(secrets, url, tls, settings.message_links))
    return senders


def receivers_tls(settings: Settings) -> ssl.SSLContext | None:
    """Trust in the authority that the settings name, for whoever stands behind a proxy; None for the usual ones.

    Raises:
        SettingsError: the file cannot be used.
    """
    if settings.receivers_ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(settings.receivers_ca))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"SPENDFUSE_RECEIVERS_CA: {settings.receivers_ca} cannot be used: {error}") from None
