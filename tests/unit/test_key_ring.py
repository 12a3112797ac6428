"""A key that was made just now: the gateway hears of it in a moment, and does not refuse it until then."""

import asyncio
from collections.abc import Iterator

import pytest

from infra.kafka.embedded import EmbeddedBroker
from streams.edge import key_ring
from streams.edge.key_ring import KeyRing, Refused
from streams.settings import Settings
from tests.support.gateway_process import new_key

MADE_UP = "sf_" + "0" * 12 + "_" + "0" * 48


@pytest.fixture
def ring(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyRing]:
    """The keys of a gateway that waits for new ones as long as it takes."""
    monkeypatch.setattr(key_ring, "NEW_KEY_S", 600.0)
    embedded.create_topics("", 2)
    with KeyRing(Settings(kafka_bootstrap=embedded.bootstrap)) as keys:
        yield keys


def test_a_new_key_is_waited_for(ring: KeyRing, embedded: EmbeddedBroker, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever uses it the moment it was made is let in; the next time nobody waits."""
    token = new_key(embedded.bootstrap, "", "acme", capture=capsys)
    asyncio.run(ring.wait_for_new(token))
    assert ring.check(token, "ingest").tenant_id == "acme"


def test_made_up_keys_hold_up_nobody(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many wait at a time, what is no key waits for nothing, and at the end each is refused."""
    monkeypatch.setattr(key_ring, "MOST_AWAITED", 1)

    async def scene() -> None:
        first = asyncio.create_task(ring.wait_for_new(MADE_UP))
        await asyncio.sleep(0)
        for shown in (MADE_UP, "no key", "", None):
            await ring.wait_for_new(shown)
        assert not first.done()
        monkeypatch.setattr(key_ring, "NEW_KEY_S", 0.0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await ring.wait_for_new(MADE_UP)

    asyncio.run(scene())
    with pytest.raises(Refused, match="not known here"):
        ring.check(MADE_UP, "ingest")
