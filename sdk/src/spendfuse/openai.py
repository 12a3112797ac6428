"""The OpenAI client, guarded: `client = guarded(OpenAI())`. For every provider that speaks OpenAI's interface."""

from collections.abc import Mapping
from typing import TypeVar, Unpack

from openai import AsyncOpenAI, OpenAI

from spendfuse._client.connect import Connection
from spendfuse._client.run import RunOptions
from spendfuse._integrations.base import Integration
from spendfuse._integrations.client import GuardedClient
from spendfuse._integrations.openai_api import OpenAI as Words

C = TypeVar("C", OpenAI, AsyncOpenAI)


def guarded(
    client: C,
    connection: Connection | None = None,
    *,
    provider: str = "openai",
    cheaper: Mapping[str, str] | None = None,
    **attribution: Unpack[RunOptions],
) -> C:
    """Have a client ask before each call to a model, and report it; the same client is returned.

    A call belongs to the run in whose block it is made (`with spendfuse.run(...)`), else to a run of its own with this
    `attribution`. `cheaper` maps a model to the one to take while a downgrade stands. Without a `connection`, the
    process's own is used. Calls raise `spendfuse.Stopped` or `spendfuse.Paused` while the run may not go on.
    """
    integration = Integration("spendfuse.openai", connection, attribution)
    return GuardedClient(integration, Words(provider), cheaper or {}).guard(
        client, is_async=isinstance(client, AsyncOpenAI)
    )
