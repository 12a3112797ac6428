"""The client reads the environment that the service reads."""

from typing import Any

import pytest
from tests.support.kafka import wait_until

from spendfuse import connect, derive_keys, keys_from_environment
from spendfuse._client.environment import kafka_config
from spendfuse.kafka import KafkaTransport

VARIABLES = {
    "KAFKA_BOOTSTRAP": "kafka:9092",
    "PREFIX": "prod.",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "KAFKA_SASL_USERNAME": "agent",
    "KAFKA_SASL_PASSWORD": "secret",
    "KAFKA_SSL_CA": "ca.pem",
}
CONFIG = {
    "bootstrap.servers": "kafka:9092",
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "agent",
    "sasl.password": "secret",
    "ssl.ca.location": "ca.pem",
}


class NoProducer:
    """Takes note of what it is made with, and of where records go."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"SPENDFUSE_{name}", value)


def transport(*given: Any, **options: Any) -> KafkaTransport:
    """A transport that connects to nothing."""
    return KafkaTransport(*given, **options, make_producer=NoProducer)  # type: ignore[arg-type]


def test_what_is_left_out_comes_from_the_environment() -> None:
    """The prefix as well: events on a topic without it would go nowhere, and nobody would say so."""
    made = transport()
    assert {name: made._config[name] for name in CONFIG} == CONFIG
    assert made._topic == "prod.usage.v1"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", " "], ids=["CR", "LF", "CR LF", "space"])
def test_what_a_file_leaves_around_a_value_is_not_part_of_it(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """A file of variables that was written on Windows, or a key that was read with the end of its line."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"SPENDFUSE_{name}", value + end)
    made = transport()
    kept = {"sasl.password": "secret "} if end == " " else {}  # a password's own
    assert {name: made._config[name] for name in CONFIG} == CONFIG | kept
    assert made._topic == "prod.usage.v1"
    monkeypatch.setenv("SPENDFUSE_URL", f"http://127.0.0.1:9{end}")
    monkeypatch.setenv("SPENDFUSE_KEY", f"sf_0{end}")
    monkeypatch.setenv("SPENDFUSE_TENANT", f"acme{end}")
    monkeypatch.setenv("SPENDFUSE_WHEN_BLIND", f"continue{end}")
    with connect() as connection:
        assert connection.tenant_id == "acme"
        wait_until(
            lambda: "http://127.0.0.1:9 does not answer" in str(connection.guard.waiting_for), 30, "it asks there"
        )


def test_what_is_given_goes_before_the_environment() -> None:
    """In code, one can still name another cluster, no prefix, and any setting of librdkafka."""
    made = transport("other:1", prefix="", config={"sasl.username": "ana"})
    assert made._topic == "usage.v1"
    expected = CONFIG | {"bootstrap.servers": "other:1", "sasl.username": "ana"}
    assert {name: made._config[name] for name in CONFIG} == expected


def test_nobody_says_where_kafka_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said when the transport is made, and not by events that never arrive."""
    monkeypatch.delenv("SPENDFUSE_KAFKA_BOOTSTRAP")
    with pytest.raises(ValueError, match="SPENDFUSE_KAFKA_BOOTSTRAP"):
        transport()
    assert kafka_config(None, {"bootstrap.servers": "k:1"})["bootstrap.servers"] == "k:1"


def test_keys_are_read_as_they_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each, or the new one and the one before it with a comma between."""
    old, new = derive_keys(b"old", "acme"), derive_keys(b"new", "acme")
    for name, kind in (("TENANT_KEY", "engine"), ("LIFT_KEY", "lift")):
        with pytest.raises(ValueError, match=f"SPENDFUSE_{name} is not set"):
            keys_from_environment()
        monkeypatch.setenv(f"SPENDFUSE_{name}", f"{new[kind].hex()}, {old[kind].hex()}")
    assert keys_from_environment() == {kind: (new[kind], old[kind]) for kind in new}
    monkeypatch.setenv("SPENDFUSE_LIFT_KEY", "a secret that is no hexadecimal")
    with pytest.raises(ValueError, match="SPENDFUSE_LIFT_KEY") as refused:
        keys_from_environment()
    assert "secret" not in str(refused.value)
