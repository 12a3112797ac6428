"""The local Kafka that tests and benchmarks start: fetched once, killed and restarted at will."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from infra.kafka.jars import KAFKA_VERSION, KafkaUnavailableError, fetch_jars, jars_folder, missing_tools
from infra.kafka.local import LocalKafka, free_ports
from streams.kafka.client import Admin
from streams.kafka.topics import apply, check
from streams.settings import Settings
from tests.support.kafka import ADDRESS_SETTING, Record, find_sources, produce, read_all

ROOT = Path(__file__).parents[2]

FAKE_MAVEN = """#!/bin/sh
echo called >> "{calls}"
for argument; do case "$argument" in -DoutputDirectory=*) folder="${{argument#*=}}";; esac; done
mkdir -p "$folder"
{then}
"""


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No jars fetched yet; programs come from `bin` in the folder returned, before the machine's own."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("SPENDFUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return tmp_path


def install_maven(machine: Path, then: str) -> Path:
    """A Maven that notes each call and does `then`; the file with its calls."""
    calls = machine / "calls"
    program = machine / "bin" / "mvn"
    program.write_text(FAKE_MAVEN.format(calls=calls, then=then), encoding="utf-8")
    program.chmod(0o755)
    return calls


def test_acknowledged_records_survive_a_kill(own_kafka: LocalKafka) -> None:
    """What the fault tests build on: after SIGKILL the broker is back on its address with everything it took."""
    admin = Admin(Settings(kafka_bootstrap=own_kafka.bootstrap))
    apply(admin, "", partitions=1, replication=1)
    produce(own_kafka.bootstrap, "usage.v1", [Record(b"%d" % number) for number in range(100)])
    own_kafka.kill()
    assert own_kafka.pid is None
    own_kafka.start()
    assert [each.value for each in read_all(own_kafka.bootstrap, "usage.v1")] == [b"%d" % each for each in range(100)]
    own_kafka.restart()
    assert len(read_all(own_kafka.bootstrap, "usage.v1")) == 100
    assert check(admin, "") == []


def test_jars_are_fetched_once_however_many_ask(empty_machine: Path) -> None:
    """Parallel set-ups share one fetch and one folder."""
    calls = install_maven(empty_machine, f'sleep 0.3; touch "$folder/kafka_2.13-{KAFKA_VERSION}.jar"')
    fetch = [sys.executable, "-c", "from infra.kafka.jars import fetch_jars; print(fetch_jars())"]
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(subprocess.check_output, fetch, cwd=ROOT, text=True) for _ in range(3)]
    assert {run.result().strip() for run in runs} == {str(jars_folder())}
    assert calls.read_text(encoding="utf-8").splitlines() == ["called"]
    assert [each.name for each in jars_folder().iterdir()] == [f"kafka_2.13-{KAFKA_VERSION}.jar"]


@pytest.mark.parametrize("then", ["echo no network; exit 1", "exit 0"])
def test_a_failed_fetch_leaves_nothing_that_looks_complete(empty_machine: Path, then: str) -> None:
    """The next attempt starts anew and says again what is wrong."""
    calls = install_maven(empty_machine, then)
    for _ in range(2):
        with pytest.raises(KafkaUnavailableError, match=r"no network|left no Kafka"):
            fetch_jars()
    assert len(calls.read_text(encoding="utf-8").splitlines()) == 2
    assert [each.suffix for each in jars_folder().parent.iterdir()] == [".lock"]


def test_an_archive_of_classes_that_java_cannot_use_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an interrupted machine or another build of Java has left: the broker starts as it does without one."""
    spoilt = tmp_path / "spoilt.jsa"
    spoilt.write_bytes(b"no archive at all")
    monkeypatch.setattr("infra.kafka.local.class_archive", lambda: spoilt)
    with LocalKafka() as kafka:
        assert kafka.pid is not None


def test_without_java_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A skipped test tells what would enable it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no `java`" in (missing_tools() or "")
    with pytest.raises(KafkaUnavailableError, match="there is no `java`"):
        LocalKafka()


def test_ports_kept_for_a_process_are_nobody_elses() -> None:
    """A broker that is killed finds its port free when it comes back: no client is given it meanwhile."""
    ports = free_ports(100)
    assert len(set(ports)) == 100
    with closing(socket.create_server(("127.0.0.1", 0))) as anybody:
        assert max(ports) < 32_768 <= anybody.getsockname()[1]


def test_an_address_given_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a broker gets that one, without a look for others."""
    monkeypatch.setenv(ADDRESS_SETTING, "kafka.example:9092")
    assert find_sources().usable == ("address",)
    assert "kafka.example:9092" in str(find_sources())


@pytest.mark.parametrize(("demand", "outcome"), [("0", "1 skipped"), ("1", "1 error")])
def test_without_any_kafka_tests_skip_by_name_or_fail_where_demanded(tmp_path: Path, demand: str, outcome: str) -> None:
    """A laptop without Java may go on; continuous integration may not."""
    environment = {name: value for name, value in os.environ.items() if name != ADDRESS_SETTING}
    environment |= {"PATH": str(tmp_path), "DOCKER_HOST": "unix:///nowhere", "REQUIRE_KAFKA": demand}
    test = "tests/integration/test_topics.py::test_applying_twice_changes_nothing"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", test]
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout
    assert outcome in said
    assert "there is no `java`" in said
    assert "no container engine answers" in said
