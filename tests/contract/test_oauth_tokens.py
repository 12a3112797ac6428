"""Tokens for a cluster that asks for OAuth, from an endpoint that may refuse."""

import asyncio
import json

import pytest
from pydantic import SecretStr

from schemas.errors import BrokerError
from streams.oauth_tokens import OAuthTokens
from streams.settings import Settings
from tests.support.receivers import Answer, Receiver, unused_port


def tokens_of(url: str) -> OAuthTokens:
    return OAuthTokens(
        Settings(
            kafka_sasl_oauth_token_url=url,
            kafka_sasl_oauth_client_id="worker",
            kafka_sasl_oauth_client_secret=SecretStr("secret"),
            kafka_sasl_oauth_scope="kafka",
        )
    )


def numbered(lasts_s: float) -> Receiver:
    """An endpoint that gives another token each time."""
    return Receiver(
        lambda _, count: Answer(body=json.dumps({"access_token": f"t{count}", "expires_in": lasts_s}).encode())
    )


@pytest.mark.parametrize(("lasts_s", "asked"), [(3600.0, 1), (0.0, 3)])
def test_a_token_is_used_until_shortly_before_its_end(lasts_s: float, asked: int) -> None:
    """Three connections that begin at once share one question while the token is good."""

    async def ask() -> tuple[int, Receiver]:
        async with numbered(lasts_s) as issuer:
            tokens = tokens_of(issuer.url)
            found = await asyncio.gather(*(tokens.token() for _ in range(3)))
            return len(set(found)), issuer

    different, issuer = asyncio.run(ask())
    assert (different, len(issuer.received)) == (asked, asked)
    assert b"grant_type=client_credentials&scope=kafka" in issuer.received[0].body
    assert issuer.received[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "answer", [Answer(401), Answer(body=b"no json"), Answer(body=b"[]"), Answer(body=b'{"token_type":"bearer"}')]
)
def test_an_endpoint_that_gives_none_is_said(answer: Answer) -> None:
    """With its address, and with what to look at; the secret is not in it."""

    async def ask() -> None:
        async with numbered(1) as issuer:
            issuer.always = answer
            await tokens_of(issuer.url).token()

    with pytest.raises(BrokerError, match="SPENDFUSE_KAFKA_SASL_OAUTH_TOKEN_URL") as refused:
        asyncio.run(ask())
    assert "secret" not in str(refused.value).replace("…_CLIENT_SECRET", "")


def test_an_endpoint_that_is_not_there_is_said() -> None:
    """Nobody listens: it is the same sentence."""
    with pytest.raises(BrokerError, match="no token for the cluster from"):
        asyncio.run(tokens_of(f"http://127.0.0.1:{unused_port()}").token())
