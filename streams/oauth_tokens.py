"""Tokens for a cluster that asks for OAuth (SASL OAUTHBEARER), for the client that does not get them by itself."""

import asyncio
from typing import Final

import aiohttp
from aiokafka.abc import AbstractTokenProvider

from schemas.errors import BrokerError
from streams.clock import seconds
from streams.settings import Settings

TIMEOUT_S: Final = 10.0
USED_FOR: Final = 0.8
"""Of its life a token is used for so much: a connection that begins with it lives on."""
SHORTEST_S: Final = 60.0
"""How long a token counts as good whose life nobody tells."""


class OAuthTokens(AbstractTokenProvider):  # type: ignore[misc]  # the library has no types
    """The client-credentials grant, as librdkafka's `oidc` method does it: one token at a time, renewed before its end.

    `token` raises `BrokerError` where the endpoint gives none.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.kafka_sasl_oauth_token_url or ""
        secret = settings.kafka_sasl_oauth_client_secret
        login = (settings.kafka_sasl_oauth_client_id or "", "" if secret is None else secret.get_secret_value())
        self._headers = {"Authorization": aiohttp.encode_basic_auth(*login)}
        self._form = {"grant_type": "client_credentials"}
        if settings.kafka_sasl_oauth_scope:
            self._form["scope"] = settings.kafka_sasl_oauth_scope
        self._token = ""
        self._good_until_s = 0.0
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        """A token that is good for a while."""
        async with self._asking:
            if seconds() >= self._good_until_s:
                await self._ask()
            return self._token

    async def _ask(self) -> None:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session,
                session.post(self._url, data=self._form, headers=self._headers) as answer,
            ):
                answer.raise_for_status()
                said = await answer.json(content_type=None)
            self._token = str(said["access_token"])
            lasts_s = float(said.get("expires_in", SHORTEST_S))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BrokerError(
                f"no token for the cluster from {self._url}: {error or type(error).__name__}. Look at "
                "SPENDFUSE_KAFKA_SASL_OAUTH_TOKEN_URL, …_CLIENT_ID and …_CLIENT_SECRET"
            ) from error
        self._good_until_s = seconds() + USED_FOR * lasts_s
