"""A guard whose broker has gone: what it says of why it is blind is of use to whoever reads it."""

from spendfuse import Emitter, Guard
from spendfuse.kafka import KafkaControl
from spendfuse.testing import MemoryTransport

from infra.kafka.embedded import EmbeddedBroker
from tests.support.kafka import wait_until

TIMEOUT_S = 30.0


def test_who_has_read_all_and_hears_no_more_names_the_broker(embedded: EmbeddedBroker) -> None:
    """It had read the topic to its end, as far as it knew: it said that it waits for nothing that is known."""
    embedded.create_topics("", 2)
    with (
        Emitter(MemoryTransport()) as emitter,
        Guard(KafkaControl(embedded.bootstrap), emitter, when_blind="continue", blind_after_s=0.5) as guard,
    ):
        assert guard.wait_ready(TIMEOUT_S), guard.waiting_for
        embedded.take_down()
        named = f"it waits for an answer of {embedded.bootstrap} about control.v1"
        wait_until(lambda: named in (guard.waiting_for or ""), TIMEOUT_S, "it is blind, and says for whom it waits")
        embedded.bring_up()
        wait_until(lambda: guard.waiting_for is None, TIMEOUT_S, "it sees again")
