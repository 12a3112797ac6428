"""What a kind of receiver brings with it: its limits, the secrets it needs, and how its sender is made.

A new kind is a folder beside this file with a `kind.py` and a `sender.py`, an entry of `registry.py`, and what the
policy may say of it in `schemas/routing.py`.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from alerting.receivers.base import Sender
from schemas.routing import Receiver


@dataclass(frozen=True, slots=True)
class Limits:
    """How often a receiver may be sent something, and when a failed message is tried again. Milliseconds."""

    pace_ms: int
    """The least time between two messages."""
    first_retry_ms: int
    """The wait after a first failure; it doubles with each further one."""
    most_retry_ms: int
    most_a_minute: int | None = None
    """Messages within any minute, where it takes fewer than its pace allows; None for what the pace allows."""


@dataclass(frozen=True, slots=True)
class Access:
    """What the environment gives to senders."""

    secrets: Mapping[str, str]
    """By the name of their environment variable."""
    url: str | None
    """The address of the service, where a kind has one of its own."""
    tls: ssl.SSLContext | None
    """Trust in an authority of the operator's, for whoever stands behind a proxy; None for the usual ones."""
    links: Mapping[str, str]
    """Label -> template of a link to the operator's own pages."""


@dataclass(frozen=True, slots=True)
class ReceiverKind:
    """A kind of receiver."""

    limits: Limits
    variables: Callable[[Receiver], list[str]]
    """Environment variables with the secrets that a receiver of the policy needs."""
    open_sender: Callable[[Receiver, Access], Sender]
    """Makes the sender of a receiver of the policy. Its client library is loaded only here."""
