"""docs/connect/wire.md and its vectors say what the code does, and another language can follow them."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from spendfuse._control.command import ControlRecord
from spendfuse._control.intake import Believed, Intake, KeysChecked
from spendfuse._control.signing import derive_keys
from spendfuse._control.standing import StandingCommands
from spendfuse._kafka.transport import DEFAULTS
from spendfuse._usage.shape import VERSION

from infra.kafka.embedded import EmbeddedBroker
from schemas.signing import EngineKeys
from schemas.usage import SHAPE_VERSION_BITS, shape_version
from tests.support.wire_vectors import NAMES, ROOT, VECTORS, text, vectors

NODE = shutil.which("node")
READER = Path(__file__).with_name("wire_vectors.mjs")
GUARD: dict[str, Any] = vectors()["guard"]


def control_record(step: dict[str, Any]) -> ControlRecord:
    """The record of a step."""
    value = None if step["value"] is None else step["value"].encode()
    return ControlRecord(value, tuple((name, given.encode()) for name, given in step["headers"]))


def stands(commands: StandingCommands, run: Any, now_ms: int) -> str | None:
    """What a guard would say of the run."""
    found = {
        "kill": commands.kill(run, now_ms), "pause": commands.pause(run, now_ms),
        "downgrade": commands.downgrade(run, now_ms),
    }  # fmt: skip
    return next((action for action, command in found.items() if command is not None), None)


def test_the_file_is_what_the_code_says() -> None:
    """Keys, signatures, partitions and hashes; `python -m tests.support.wire_vectors` writes them again."""
    assert VECTORS.read_text(encoding="utf-8") == text()


def test_the_clients_guard_agrees_with_the_vectors() -> None:
    """Record by record: what it makes of it, and what then stands for the run."""
    intake, commands = Intake(GUARD["tenant_id"], derive_keys(ROOT, GUARD["tenant_id"])), StandingCommands()
    run = SimpleNamespace(**GUARD["run"])
    for step in GUARD["records"]:
        read = intake.read(control_record(step))
        verdict: str | None
        if isinstance(read, Believed):
            verdict = commands.apply(read.command, by_operator=read.by_operator, now_ms=GUARD["now_ms"]).verdict
        elif isinstance(read, KeysChecked):
            verdict = "keys_hold" if read.hold else "keys_wrong"
        else:
            verdict = read or "other_tenant"
        assert (step["what"], verdict) == (step["what"], step["verdict"])
        assert (step["what"], stands(commands, run, GUARD["now_ms"])) == (step["what"], step["stands"])
        if "told" in step:
            nudge = commands.take_nudge(run, GUARD["now_ms"])
            assert (step["what"], nudge and nudge.reason) == (step["what"], step["told"])


def test_the_clients_keys_are_the_services() -> None:
    """Derived alike, whatever characters a tenant's name holds."""
    engine = EngineKeys(ROOT)
    for name in NAMES:
        assert derive_keys(ROOT, name) == {"engine": engine.tenant_key(name), "lift": engine.lift_key}


def test_the_service_knows_the_version_of_a_shape() -> None:
    """As the client writes it, so that shapes of two versions are never compared; a bare hash has none."""
    hashes = [each["hash"] for each in vectors()["shapes"]["results"] if each["hash"] is not None]
    assert {shape_version(each) for each in hashes} == {VERSION % 2**SHAPE_VERSION_BITS} != {0}
    assert {shape_version(each) for each in ("", "1", *(each[2:] for each in hashes))} == {0}


def test_the_clients_partitioner_finds_the_partitions(embedded: EmbeddedBroker) -> None:
    """Where the Kafka client puts each name's records, with the settings that the SDK gives to it."""
    topics = {count: f"t{count}" for count in {each["partitions"] for each in vectors()["partitions"]}}
    for count, topic in topics.items():
        embedded.create_topic(topic, count)
    producer = Producer({"bootstrap.servers": embedded.bootstrap, "partitioner": DEFAULTS["partitioner"]})
    found: list[tuple[str | None, str, int | None]] = []

    def delivered(error: object, message: Message) -> None:
        assert error is None
        found.append((message.topic(), (message.key() or b"").decode(), message.partition()))

    for each in vectors()["partitions"]:
        producer.produce(topics[each["partitions"]], b"{}", each["key"].encode(), on_delivery=delivered)
    assert producer.flush(30) == 0
    expected = [(topics[each["partitions"]], each["key"], each["partition"]) for each in vectors()["partitions"]]
    assert sorted(found) == sorted(expected)


@pytest.mark.skipif(NODE is None, reason="there is no node to run another language with")
def test_another_language_agrees_with_the_vectors() -> None:
    """A guard written from the page in JavaScript, with nothing but Node's own library, comes to the same."""
    assert NODE is not None
    done = subprocess.run([NODE, READER, VECTORS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "all else agree" in done.stdout
