"""The calls of a run that somebody looks at, from the log."""

from confluent_kafka import Producer

from infra.kafka.embedded import EmbeddedBroker
from models.prices.book import PriceBook
from schemas.codec import encode
from streams.clock import wall_ms
from streams.console.run_follower import LINGER_MS, MOST_FOLLOWED, RunFollowers
from streams.settings import Settings
from tests.support.console_world import calls_of
from tests.support.kafka import wait_until


def test_a_runs_calls_are_what_was_and_what_comes(embedded: EmbeddedBroker) -> None:
    """Those on the log before somebody looked, also of a broker that knows no times, and those that come; each once,
    and nobody else's. Who looks at the same run shares them.
    """
    embedded.create_topics("", 2)
    producer = Producer({"bootstrap.servers": embedded.bootstrap, "partitioner": "murmur2_random", "log_level": 0})
    for call in [*calls_of("mine", 3), *calls_of("other", 3), *calls_of("mine", 3, "globex")]:
        producer.produce("usage.v1", encode(call), call.tenant_id.encode())
    producer.flush(10)
    followers = RunFollowers(Settings(kafka_bootstrap=embedded.bootstrap), PriceBook)
    began_ms = wall_ms() - 60_000
    found = followers.look("acme", "mine", lambda: began_ms)
    assert found is not None
    wait_until(lambda: found.tree.version == 6, 20, "what was on the log is there")
    for call in calls_of("mine", 4):
        producer.produce("usage.v1", encode(call), b"acme")
    producer.flush(10)
    wait_until(lambda: found.tree.version == 8, 20, "what has come since is there")
    assert list(found.tree.runs) == ["mine"]
    assert followers.look("acme", "mine", lambda: began_ms) is found
    followers.end()


def test_only_so_many_runs_are_followed(embedded: EmbeddedBroker) -> None:
    """While all are looked at, one more is not; once one has been left for a moment, it makes room; after a minute all
    that are left are let go.
    """
    embedded.create_topics("", 2)
    clock = [0]
    followers = RunFollowers(Settings(kafka_bootstrap=embedded.bootstrap), PriceBook, lambda: clock[0])
    for number in range(MOST_FOLLOWED):
        assert followers.look("acme", f"r{number}", wall_ms) is not None
    assert followers.look("acme", "one more", wall_ms) is None
    clock[0] = 10_000
    assert followers.look("acme", "one more", wall_ms) is not None
    assert len(followers) == MOST_FOLLOWED
    clock[0] += LINGER_MS + 1
    assert followers.look("acme", "later", wall_ms) is not None
    assert len(followers) == 1
    followers.end()
