"""The Anthropic client, guarded: `client = guarded(Anthropic())`."""

from collections.abc import Mapping
from typing import TypeVar, Unpack

from anthropic import Anthropic, AsyncAnthropic

from spendfuse._client.connect import Connection
from spendfuse._client.run import RunOptions
from spendfuse._integrations.anthropic_api import Anthropic as Words
from spendfuse._integrations.base import Integration
from spendfuse._integrations.client import GuardedClient

C = TypeVar("C", Anthropic, AsyncAnthropic)


def guarded(
    client: C,
    connection: Connection | None = None,
    *,
    cheaper: Mapping[str, str] | None = None,
    **attribution: Unpack[RunOptions],
) -> C:
    """Have a client ask before each call to a model, and report it; the same client is returned.

    A call belongs to the run in whose block it is made (`with spendfuse.run(...)`), else to a run of its own with this
    `attribution`. `cheaper` maps a model to the one to take while a downgrade stands. Without a `connection`, the
    process's own is used. Calls raise `spendfuse.Stopped` or `spendfuse.Paused` while the run may not go on.
    """
    integration = Integration("spendfuse.anthropic", connection, attribution)
    return GuardedClient(integration, Words(), cheaper or {}).guard(client, is_async=isinstance(client, AsyncAnthropic))
