"""`python -m streams sink` from the outside: what it refuses to write, and what it leaves out."""

from pathlib import Path

import pytest

from infra.kafka.embedded import EmbeddedBroker
from schemas.codec import encode
from streams.__main__ import main
from streams.clock import wall_ms
from streams.sinks.stores import open_store
from tests.support.kafka import Record, produce
from tests.support.messages import llm_call


def test_a_store_of_another_log_is_refused(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Offsets of one cluster and prefix mean nothing in another: exit code 3, and the store stays as it was. What
    cannot be read is left out, and what can is there, in however many runs.
    """
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", embedded.bootstrap)
    address = f"duckdb:///{tmp_path}/events.duckdb"
    words = ["sink", "--to", address, "--once"]
    for prefix in ("ours.", "theirs."):
        embedded.create_topics(prefix, 2)
        calls = [Record(encode(llm_call(wall_ms(), usd=1)), b"acme") for _ in range(3)]
        produce(embedded.bootstrap, f"{prefix}usage.v1", [*calls, Record(b"nothing", b"acme")], idempotent=False)
    monkeypatch.setenv("SPENDFUSE_PREFIX", "ours.")
    assert main(words) == 0
    assert main(words) == 0
    monkeypatch.setenv("SPENDFUSE_PREFIX", "theirs.")
    assert main(words) == 3
    assert "offsets of one mean nothing in the other" in capsys.readouterr().err
    store = open_store(address)
    assert store.query("select count(*) from events") == [(3,)]
    store.close()
